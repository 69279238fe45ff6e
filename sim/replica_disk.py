"""The disk's work of one replica: job after job of its store, each a chain of steps that take their time.

Every step but reads and writes is an event of its own, so that time passes and crashes fall between and inside them.
What storage reports as done is compared with what the disk would keep.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from sim.choices import Choices, latency_of
from sim.disk import FakeDisk, file_of
from sim.network import Network
from sim.oracles.facts import violate
from sim.oracles.tearing import demand_intact
from sim.oracles.watch import Watch
from sim.scheduler import Scheduler
from sim.shape import Shape
from trio_pb.core.durable import Scan
from trio_pb.core.ports import Scrubbed, Start, SuperblockDone, WalDone, WalReadDone
from trio_pb.errors import DataDirectoryError, DiskFullError, StorageError
from trio_pb.storage.disk import Flush, Job, Read, Write, run
from trio_pb.storage.proofs import PROOFS_FILE
from trio_pb.storage.store import Store
from trio_pb.storage.superblock import SUPERBLOCK_FILE
from trio_pb.storage.work import Completion, Work

__all__ = ["ReplicaDisk", "World"]


class World(Protocol):
    """What a replica needs of the cluster that it lives in."""

    choices: Choices
    scheduler: Scheduler
    network: Network
    watch: Watch
    shape: Shape
    seed: int

    def trace(self, *event: object) -> None:
        """Note an event for the run's trace."""
        ...

    def count(self, event: str) -> None:
        """Count an event for the run's report."""
        ...

    def end_stream(self, replica: int, client: int, connection: int) -> None:
        """A replica's end of a client connection is gone: let the client hear of it."""
        ...


class ReplicaDisk(ABC):
    """What a replica has beside its core: a disk that outlives it, and a store for each boot."""

    def __init__(self, world: World, number: int, disk: FakeDisk) -> None:
        self.world = world
        self._scheduler = world.scheduler
        self._watch = world.watch
        self.number = number
        self.disk = disk
        self.is_paused = False
        self.stalled_until = 0  # Virtual time before which no step of disk work ends.
        self.slowness = 1  # Factor to the latencies of its disk.
        self.crash_after_steps: int | None = None  # A planned crash inside the disk's work,
        self.crash_at_flush: tuple[str, int] | None = None  # or at the n-th flush of a file: what it covers may tear.
        self.struck_at = ""  # The file whose flush the crash that is under way falls into.
        self._crash_power = False
        self._lost_power = False  # In the crash before this boot.
        self._boots: int = 0
        self._life: int = 0  # Counts boots and crashes; events of an earlier life find nobody.
        self._store = Store(segment_size=world.shape.segment_size)
        self._is_disk_idle = True  # The store had nothing to do, and nothing was put since.
        self._job: Job[Any] | None = None  # Its value depends on the job.
        self._job_done: Callable[[Any], None] = self._on_completions
        self._job_write = 0  # The disk's latest write when the job began.
        self._steps_done: dict[tuple[str, str], int] = {}  # Of disk work, by kind and file, over all boots.
        self._step_waits = False  # A step of disk work completed while we were paused.

    @property
    def name(self) -> str:
        """R0, R1, ..."""
        return f"R{self.number}"

    @property
    def is_disk_busy(self) -> bool:
        """Whether storage work is in progress."""
        return self._job is not None

    @abstractmethod
    def crash(self, *, power: bool) -> None:
        """Die at once; with `power` the machine dies and unflushed writes are at stake."""

    @abstractmethod
    def _stop_for_good(self) -> None:
        """Die, and never start again."""

    @abstractmethod
    def _on_completions(self, completions: tuple[Completion, ...]) -> None:
        """A job ended with these."""

    # --- Jobs -----------------------------------------------------------------------------------

    def _put(self, work: Work) -> None:
        self._is_disk_idle = False
        self._store.put(work)

    def _begin_disk_work(self) -> None:
        if self._job is None and not self._is_disk_idle:
            job = self._store.take()
            if job is not None:
                self._run_job(job, self._on_completions)
            else:
                self._is_disk_idle = True

    def _run_job(self, job: Job[Any], done: Callable[[Any], None]) -> None:
        self._job, self._job_done = job, done
        self._job_write = self.disk.writes
        self._advance_job(None)

    def _advance_job(self, result: object, full: DiskFullError | None = None) -> None:
        """Give the job its last result, or tell it that the disk is full, and begin its next step."""
        job, disk = self._job, self.disk
        assert job is not None
        while True:
            try:
                step = job.send(result) if full is None else job.throw(full)
            except StopIteration as ended:
                self._job = None
                self._job_done(ended.value)
                return
            except DiskFullError as error:
                self._fail_storage(error)  # It could not go on without.
                return
            except (StorageError, DataDirectoryError) as error:
                self._refuse_disk(error)
                return
            full = None
            disk.begin(step)
            if type(step) is Flush and (step.file == PROOFS_FILE or step.file == SUPERBLOCK_FILE):
                demand_intact(disk, step.file, self._watch.facts.disks[self.number])
            if self.crash_after_steps is not None:
                if self.crash_after_steps == 0:
                    self.crash(power=self._crash_power)
                    return
                self.crash_after_steps -= 1
            if self.crash_at_flush is not None and type(step) is Flush and step.file == self.crash_at_flush[0]:
                file, left = self.crash_at_flush
                if left == 0:
                    self.struck_at = file
                    self.crash(power=self._crash_power)
                    return
                self.crash_at_flush = file, left - 1
            if type(step) is not Write and type(step) is not Read:
                break
            # Reads and writes go on at once: whether a write was never made or lost is the same to a
            # power cut, and a planned crash can still fall between two of them.
            try:
                result = disk.finish()
            except DiskFullError as error:
                full = error
            except StorageError as error:
                self._fail_storage(error)
                return
        speed = self.world.shape.disk
        content = (type(step).__name__, file_of(step))
        nth = self._steps_done[content] = self._steps_done.get(content, 0) + 1
        bits = self.world.choices.bits(("disk", self.number, *content, nth))
        if type(step) is Flush:
            delay = latency_of(bits, speed.flush_min, speed.flush_mean)
        else:
            delay = latency_of(bits, speed.step_min, speed.step_mean)
        delay = max(delay * self.slowness, self.stalled_until - self._scheduler.now)
        self._scheduler.after(delay, self._finish_step, self._life)

    def _finish_step(self, life: int) -> None:
        if life != self._life or self._job is None:
            return
        if self.is_paused:
            self._step_waits = True
            return
        result: object = None
        full: DiskFullError | None = None
        try:
            result = self.disk.finish()
        except DiskFullError as error:
            full = error
        except StorageError as error:
            self._fail_storage(error)
            return
        self._advance_job(result, full)

    def _fail_storage(self, error: StorageError) -> None:
        """The device failed: stop, and never try again what failed (R-IOERR)."""
        self.world.trace("storage failed", self.number, str(error))
        self.world.count("storage failed")
        self.crash(power=False)

    def _refuse_disk(self, error: StorageError | DataDirectoryError) -> None:
        """Opening found a disk that must not be used: right only where it was damaged to that point (PROTOCOL 7.6)."""
        if not self._watch.facts.disks[self.number].may_be_lost:
            violate(
                "disk refused", f"{self.name} does not start on a disk that lost no copy of its superblock: {error}"
            )
        self.world.trace("disk lost", self.number, str(error))
        self.world.count("disk lost")
        self._stop_for_good()

    # --- What it must have kept -----------------------------------------------------------------

    def _note_durable(self, completions: tuple[Completion, ...]) -> None:
        """Tell the oracles what storage reports, if it is so."""
        watch = self._watch
        if completions and self.disk.has_unflushed_since(self._job_write):
            violate("INV-8", f"{self.name}: storage reports work as durable that a power cut would undo")
        for completion in completions:
            if type(completion) is WalDone:
                watch.append_done(self.number, completion.sequence)
            elif type(completion) is SuperblockDone:
                watch.image_done(self.number, completion.sequence)
            elif type(completion) is WalReadDone:
                self._judge_record(completion)
            elif type(completion) is Scrubbed and not watch.facts.disks[self.number].is_damaged:
                self._judge_scrubbing(completion)

    def _judge_record(self, read: WalReadDone) -> None:
        """What lies in a record's place is that record, or none (T-17)."""
        if read.prepare is not None and read.prepare.id != read.id:
            violate("wrong record", f"{self.name}: asked for {read.id}, storage hands out {read.prepare.id}")

    def _judge_scrubbing(self, found: Scrubbed) -> None:
        """On a disk that nothing damaged there is no damage to be found."""
        if found.records or found.chunks or found.proofs or found.superblock:
            violate("scrub", f"{self.name}: scrubbing an undamaged disk found {found}")

    def _durable_scan(self, start: Start) -> Scan:
        """What opening the storage would find after a power cut now."""
        # Only after a crash of the process may the page cache show more than the medium holds.
        if self._lost_power or self._boots == 1 or self.disk.is_clean:
            return start.scan
        return run(self.disk.remains(), Store(segment_size=self.world.shape.segment_size).look()).scan
