"""Group commit in a thread: completions come back, failures end the replica."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import trio

from tests.driver.fakes import FakeDisk, FakeStore, all_for_core, make_superblock
from trio_pb.core.ports import ChunkPut, Collect, Input, Scrub, SuperblockWrite, WalAppend, WalDone, WalRead
from trio_pb.driver.disk_thread import DiskThread
from trio_pb.driver.disk_work import DiskWork, Jobs
from trio_pb.driver.flush_policy import BLOCKING_SECONDS_MAX, FlushPolicy
from trio_pb.driver.inbox import Inbox
from trio_pb.errors import DiskFullError, ReplicaStoppedError, StorageError
from trio_pb.storage.disk import Allocate, Disk, Flush, Job, Read, Step, Write, run
from trio_pb.storage.work import Completion, Work


def complete(work: Work) -> Input:
    """Appends only, here."""
    assert isinstance(work, WalAppend)
    return WalDone(work.sequence)


def append(sequence: int) -> WalAppend:
    """An append of nothing."""
    return WalAppend(sequence, (), None)


async def test_completions_come_back_as_inputs() -> None:
    """Put, and some time later the inbox has it."""
    inbox = Inbox()
    thread = DiskWork(FakeStore(complete), FakeDisk(), inbox, DiskThread(), sift=all_for_core)
    thread.start()
    thread.put([append(1)])
    assert await inbox.take_all() == [WalDone(1)]
    assert await thread.close(5)


async def test_what_was_put_together_is_one_group_and_waits_for_the_running_one() -> None:
    """While a flush runs everything else gathers behind it."""
    inbox, disk = Inbox(), FakeDisk()
    store = FakeStore(complete)
    thread = DiskWork(store, disk, inbox, DiskThread(), sift=all_for_core)
    thread.start()
    disk.gate.clear()
    thread.put([append(1), append(2)])
    await trio.to_thread.run_sync(disk.waiting.wait)
    thread.put([append(3)])
    thread.put([append(4), append(5)])
    disk.gate.set()
    done: list[Input] = []
    while len(done) < 5:
        done += await inbox.take_all()
    assert done == [WalDone(n) for n in range(1, 6)]
    assert store.groups == [2, 3]
    assert len(disk.steps) == 2
    assert await thread.close(5)


async def test_a_failed_flush_stops_the_replica_with_the_cause_and_is_not_retried() -> None:
    """R-IOERR: one attempt, a clear message, no completion."""
    inbox, disk = Inbox(), FakeDisk()
    disk.fail("log/1: flush: EIO")
    thread = DiskWork(FakeStore(complete), disk, inbox, DiskThread(), sift=all_for_core)
    thread.start()
    thread.put([append(1)])
    with pytest.raises(ReplicaStoppedError, match="storage: log/1: flush: EIO") as caught:
        await inbox.take_all()
    assert caught.value.reason == "storage"
    assert isinstance(caught.value.__cause__, StorageError)
    thread.put([append(2)])
    assert await thread.close(5)
    assert len(disk.steps) == 1


async def test_a_bug_in_storage_code_is_not_hidden_in_the_thread() -> None:
    """Any exception arrives where the replica is owned."""
    inbox = Inbox()
    thread = DiskWork(FakeStore(complete), FakeDisk(), inbox, DiskThread(), sift=all_for_core)
    thread.start()
    thread.put([WalRead(id=None)])  # type: ignore[arg-type] # The store's own assert is what we are after.
    with pytest.raises(AssertionError):
        await inbox.take_all()
    assert await thread.close(5)


async def test_closing_ends_the_running_job_and_drops_the_rest() -> None:
    """Nothing starts after close was asked for."""
    inbox, disk = Inbox(), FakeDisk()
    store = FakeStore(complete)
    thread = DiskWork(store, disk, inbox, DiskThread(), sift=all_for_core)
    thread.start()
    disk.gate.clear()
    thread.put([append(1)])
    await trio.to_thread.run_sync(disk.waiting.wait)
    thread.put([append(2)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(thread.close, 5)
        await trio.testing.wait_all_tasks_blocked()
        disk.gate.set()
    assert store.groups == [1]


async def test_a_hanging_disk_does_not_keep_close_for_ever() -> None:
    """Close says that the thread is still there."""
    disk = FakeDisk()
    thread = DiskWork(FakeStore(complete), disk, Inbox(), DiskThread(), sift=all_for_core)
    thread.start()
    disk.gate.clear()
    thread.put([append(1)])
    await trio.to_thread.run_sync(disk.waiting.wait)
    assert not await thread.close(0.01)
    disk.gate.set()
    assert await thread.close(5)


async def test_closing_a_thread_that_never_ran() -> None:
    """A start that failed half-way closes as well."""
    assert await DiskWork(FakeStore(complete), FakeDisk(), Inbox(), DiskThread(), sift=all_for_core).close(5)


async def test_of_all_completions_only_those_for_the_core_reach_it() -> None:
    """The others are for whoever writes checkpoints, who may have something to do now: the taker is woken."""
    inbox = Inbox()
    taken: list[Completion] = []

    def sift(done: Sequence[Completion]) -> list[Input]:
        taken.extend(done)
        return [one for one in all_for_core(done) if one != WalDone(1)]

    thread = DiskWork(FakeStore(complete), FakeDisk(), inbox, DiskThread(), sift=sift)
    thread.start()
    thread.put([append(1)])
    assert await inbox.take_all() == []
    assert taken == [WalDone(1)]
    thread.put([append(1), append(2)])
    assert await inbox.take_all() == [WalDone(2)]
    assert await thread.close(5)


# --- Work in the loop -----------------------------------------------------------------------------


class Inline(FlushPolicy):
    """Trusts every disk, until a job blocks the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.is_inline = True
        self.noted: list[float] = []

    def note(self, seconds: float) -> None:
        """Remember, and obey the bound."""
        self.noted.append(seconds)
        self.is_inline = seconds <= BLOCKING_SECONDS_MAX


class StepStore:
    """Makes one job of scripted steps for each output, and after the first one the spare."""

    def __init__(self, *steps: Step, spare: Step | None = None) -> None:
        self._steps = steps
        self._spare = spare
        self._outputs: list[Work] = []
        self._spare_is_due = False

    def put(self, work: Work) -> None:
        """Queue."""
        self._outputs.append(work)

    def take(self) -> Job[tuple[Completion, ...]] | None:
        """The queued work first, then the spare."""
        if self._outputs:
            outputs, self._outputs = self._outputs, []
            self._spare_is_due = True
            return self._job(outputs)
        if self._spare is not None and self._spare_is_due:
            spare, self._spare = self._spare, None
            return self._fill(spare)
        return None

    def _job(self, works: list[Work]) -> Job[tuple[Completion, ...]]:
        for step in self._steps:
            result = yield step
            assert (result == b"read") == (type(step) is Read), "each step gets its own result"
        return tuple(complete(work) for work in works)

    def _fill(self, spare: Step) -> Job[tuple[Completion, ...]]:
        yield spare
        return ()


class FullStore(StepStore):
    """Goes on without what there is no room for."""

    def __init__(self, *steps: Step) -> None:
        super().__init__(*steps)
        self.refused: list[Step] = []

    def _job(self, works: list[Work]) -> Job[tuple[Completion, ...]]:
        for step in self._steps:
            try:
                yield step
            except DiskFullError:
                self.refused.append(step)
        return tuple(complete(work) for work in works)


class SteppedDisk:
    """Notes who did which step; time passes only by its steps."""

    def __init__(self, **seconds: float) -> None:
        self.now = 0.0
        self.steps: list[tuple[str, bool]] = []  # Kind, and whether in the loop.
        self.failure: StorageError | None = None
        self.full: set[tuple[str, bool]] = set()  # Steps that find no room.
        self._seconds = seconds  # By kind of step.
        self._loop = threading.get_ident()

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def do(self, step: Step) -> object:
        """Let its time pass."""
        kind = type(step).__name__
        self.steps.append((kind, threading.get_ident() == self._loop))
        if self.failure is not None:
            raise self.failure
        if self.steps[-1] in self.full:
            raise DiskFullError(f"{kind}: no room")
        self.now += self._seconds.get(kind, 0.0)
        return b"read" if type(step) is Read else None


RECORD, FLUSH = Write("log/1", 0, b"record"), Flush("log/1")
PROOF, PROOF_FLUSH = Write("proofs", 0, b"proof"), Flush("proofs")


async def start_inline(store: StepStore, disk: SteppedDisk, inbox: Inbox) -> tuple[DiskWork, Inline]:
    """A thread that waits, beside a loop that may work."""
    policy = Inline()
    thread = DiskWork(store, disk, inbox, DiskThread(), sift=all_for_core, policy=policy, clock=disk.clock)
    thread.start()
    with trio.fail_after(5):
        while not thread.may_work_here([]):
            await trio.lowlevel.checkpoint()
    return thread, policy


async def test_the_loop_does_a_job_itself_and_has_its_completions_at_once() -> None:
    """In the order that the store wants: nothing goes by the thread or the inbox."""
    disk, inbox = SteppedDisk(Flush=0.001), Inbox()
    thread, policy = await start_inline(StepStore(RECORD, FLUSH, PROOF, PROOF_FLUSH), disk, inbox)
    assert thread.work_here([append(1), append(2)]) == [WalDone(1), WalDone(2)]
    assert disk.steps == [("Write", True), ("Flush", True), ("Write", True), ("Flush", True)]
    assert policy.noted == [0.002]
    assert thread.may_work_here([])
    assert await thread.close(5)


class ByHand:
    """A runner that does what is queued when the test says so."""

    def start(self, disk: Disk, jobs: Jobs) -> None:
        """Keep them."""
        self._disk, self._jobs = disk, jobs

    def call(self) -> None:
        """The test will."""

    async def join(self, timeout_seconds: float) -> bool:
        """Nothing runs."""
        del timeout_seconds
        await trio.lowlevel.checkpoint()
        return True

    def run(self) -> None:
        """Until there is nothing left."""
        while (job := self._jobs.take()) is not None:
            self._jobs.ended(run(self._disk, job))


async def test_completions_do_not_overtake_one_another() -> None:
    """Those of the runner may still be on their way when it has nothing more to do: the loop waits for them."""
    disk, inbox, runner = SteppedDisk(), Inbox(), ByHand()
    work = DiskWork(StepStore(RECORD), disk, inbox, runner, sift=all_for_core, policy=Inline(), clock=disk.clock)
    work.start()
    work.put([append(1)])
    runner.run()
    assert not work.may_work_here([append(2)])
    assert await inbox.take_all() == [WalDone(1)]
    assert work.may_work_here([append(2)])
    assert work.work_here([append(2)]) == [WalDone(2)]
    assert await work.close(5)


async def test_a_job_that_takes_too_long_goes_on_in_the_thread() -> None:
    """The loop waits for the step that stalls, and for no other; later work queues behind."""
    disk, inbox = SteppedDisk(Flush=2 * BLOCKING_SECONDS_MAX), Inbox()
    thread, policy = await start_inline(StepStore(RECORD, FLUSH, PROOF, PROOF_FLUSH), disk, inbox)
    assert thread.work_here([append(1)]) == []
    assert policy.noted[0] == 2 * BLOCKING_SECONDS_MAX
    assert not thread.may_work_here([])
    assert await inbox.take_all() == [WalDone(1)]
    assert disk.steps == [("Write", True), ("Flush", True), ("Write", False), ("Flush", False)]
    thread.put([append(2)])
    assert await inbox.take_all() == [WalDone(2)]
    assert await thread.close(5)


@pytest.mark.parametrize("step", [Read("log/1", 0, 8), Allocate("log/2", 1 << 20)])
async def test_only_writes_and_flushes_are_done_in_the_loop(step: Step) -> None:
    """A read of old records or a new file may take any time."""
    disk, inbox = SteppedDisk(), Inbox()
    thread, _ = await start_inline(StepStore(RECORD, FLUSH, step, PROOF), disk, inbox)
    assert thread.work_here([append(1)]) == []
    assert await inbox.take_all() == [WalDone(1)]
    assert [here for _, here in disk.steps] == [True, True, False, False]
    assert await thread.close(5)


async def test_only_group_commits_are_done_in_the_loop() -> None:
    """Slices of checkpoints, transfers and scrubbing are for the thread, however fast the disk."""
    thread, _ = await start_inline(StepStore(RECORD), SteppedDisk(), Inbox())
    image = SuperblockWrite(1, make_superblock())
    assert thread.may_work_here([append(1), image])
    for work in (WalRead(make_superblock().commit), Scrub(), Collect(1, ()), ChunkPut(b"d" * 32, b"chunk")):
        assert not thread.may_work_here([append(1), work])
    assert await thread.close(5)


async def test_a_full_disk_is_told_to_the_job_in_the_loop_and_in_the_thread() -> None:
    """The job knows what to do without; nothing ends."""
    disk, inbox = SteppedDisk(Flush=2 * BLOCKING_SECONDS_MAX), Inbox()
    disk.full = {("Write", True), ("Write", False)}
    store = FullStore(RECORD, FLUSH, PROOF, FLUSH)
    thread, _ = await start_inline(store, disk, inbox)
    assert thread.work_here([append(1)]) == []
    assert await inbox.take_all() == [WalDone(1)]
    assert store.refused == [RECORD, PROOF]
    assert [here for _, here in disk.steps] == [True, True, False, False]
    assert await thread.close(5)


async def test_work_that_nobody_waits_for_goes_to_the_thread() -> None:
    """The zeros of the next segment; what is put meanwhile comes after them."""
    disk, inbox = SteppedDisk(), Inbox()
    store = StepStore(RECORD, FLUSH, spare=Write("log/2", 0, b"zeros"))
    thread, _ = await start_inline(store, disk, inbox)
    assert thread.work_here([append(1)]) == [WalDone(1)]
    assert not thread.may_work_here([])
    thread.put([append(2)])
    assert await inbox.take_all() == [WalDone(2)]
    assert [here for _, here in disk.steps] == [True, True, False, False, False]
    assert await thread.close(5)


async def test_a_failed_flush_in_the_loop_stops_the_replica_and_is_not_retried() -> None:
    """R-IOERR holds in the loop as in the thread."""
    disk = SteppedDisk()
    thread, _ = await start_inline(StepStore(RECORD, FLUSH), disk, Inbox())
    disk.failure = StorageError("log/1: flush: EIO")
    with pytest.raises(ReplicaStoppedError, match="storage: log/1: flush: EIO") as caught:
        thread.work_here([append(1)])
    assert caught.value.__cause__ is disk.failure
    assert not thread.may_work_here([])
    thread.put([append(2)])
    assert await thread.close(5)
    assert len(disk.steps) == 1


async def test_nothing_is_done_in_the_loop_after_close() -> None:
    """What is queued is dropped, as in the thread."""
    thread, _ = await start_inline(StepStore(RECORD), SteppedDisk(), Inbox())
    assert await thread.close(5)
    assert not thread.may_work_here([])
