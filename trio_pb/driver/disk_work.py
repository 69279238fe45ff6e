"""Storage work: what is to be done, and whether the loop does it or a thread beside it.

The loop queues outputs; a runner, usually a thread, takes all that is queued as one job (group commit),
runs it, hands the completions back through the Trio token and takes the next.

While the disk is measured fast and the runner has nothing to do, the loop may run a plain group commit
itself (`work_here`): with one customer that saved a quarter of a replica's processor time per order,
since the two threads hand the interpreter to one another at every system call. The loop gives a job up
to the runner after `BLOCKING_SECONDS_MAX`, and before any step that is not a plain write or flush; so
it is blocked for at most that time and one step. Checkpoints, transfers and scrubbing are the runner's.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Protocol, TypeAlias

import trio

from trio_pb.core.ports import Input, SuperblockDone, SuperblockWrite, WalAppend, WalDone
from trio_pb.driver.flush_policy import BLOCKING_SECONDS_MAX, FlushPolicy
from trio_pb.driver.inbox import Inbox
from trio_pb.errors import DiskFullError, ReplicaStoppedError, StorageError
from trio_pb.storage.disk import Disk, Flush, Job, Step, Write, attempt, resume
from trio_pb.storage.work import Completion, Work

__all__ = ["DiskWork", "Jobs", "Runner", "Sift", "StorageJob", "StorageQueue"]

StorageJob: TypeAlias = Job[tuple[Completion, ...]]
Sift: TypeAlias = Callable[[Sequence[Completion]], list[Input]]

# What a group commit consists of; the loop does nothing else itself.
_PLAIN = frozenset({WalAppend, SuperblockWrite})


class StorageQueue(Protocol):
    """The part of `storage.store.Store` that is used here."""

    def put(self, work: Work, /) -> None:
        """Queue one thing to do."""
        ...

    def take(self) -> StorageJob | None:
        """Return a group commit or a slice of longer work as one job, or None when there is nothing to do."""
        ...


class Jobs(Protocol):
    """What a runner has to do. Callable from any thread."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is to be done, ever."""
        ...

    def take(self) -> StorageJob | None:
        """Return the next job; after None, the next call says that there may be one."""
        ...

    def ended(self, done: tuple[Completion, ...]) -> None:
        """Tell what the job taken last resulted in, everything it flushed being durable.

        Raises:
            trio.RunFinishedError: nobody is left to tell.
        """
        ...

    def failed(self, error: BaseException) -> None:
        """Tell that the job taken last cannot go on; take no other."""
        ...


class Runner(Protocol):
    """Runs jobs beside the loop, one at a time: a thread (`disk_thread`), or a task of a simulation."""

    def start(self, disk: Disk, jobs: Jobs) -> None:
        """Begin. Between a `take` that gave None and the next `call`, the disk is the loop's."""
        ...

    def call(self) -> None:
        """Look at the jobs again: one was put, or they were closed."""
        ...

    async def join(self, timeout_seconds: float) -> bool:
        """Wait for the running job to end, once the jobs were closed; return whether it did in time."""
        ...


class DiskWork:
    """Owns `store` from the beginning, and `disk` from `start` until `close` returned.

    `sift` is called in the loop with all completions and returns those that are for the core.
    """

    def __init__(
        self,
        store: StorageQueue,
        disk: Disk,
        inbox: Inbox,
        runner: Runner,
        *,
        sift: Sift,
        policy: FlushPolicy | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._store = store
        self._disk = disk
        self._inbox = inbox
        self._runner = runner
        self._sift = sift
        self._policy = policy or FlushPolicy()
        self._clock = clock  # Seconds; loop and runner read it.
        self._token = trio.lowlevel.current_trio_token()
        # `put` in the loop and `take` in the runner exclude one another; a job runs outside the lock.
        self._lock = threading.Lock()
        # The runner waits for a call, and until it gets one, store and disk are the loop's.
        self._idle = False
        self._handed: deque[StorageJob] = deque()  # By the loop to the runner: to be run before all else.
        self._taken_at = 0.0  # When the runner took its last job.
        # Completions are told in the order in which jobs ended, so the loop does none while one is on its way.
        self._ended = 0  # Jobs of the runner; counted there.
        self._delivered = 0  # Those whose completions came here; counted in the loop.
        self.is_closed = False
        self.jobs_here = 0  # Done by the loop, to the end or in part.

    def start(self) -> None:
        """Start the runner."""
        self._runner.start(self._disk, self)

    def put(self, works: Iterable[Work]) -> None:
        """Queue `works`, together: appends of one turn are flushed as one group."""
        with self._lock:
            for work in works:
                self._store.put(work)
            if self._idle:
                self._idle = False
                self._runner.call()

    async def close(self, timeout_seconds: float) -> bool:
        """Let the running job end, drop what is queued; return whether the runner ended in time."""
        with self._lock:
            self.is_closed = True
            self._runner.call()
        return await self._runner.join(timeout_seconds)

    # --- In the loop ----------------------------------------------------------------------------

    def may_work_here(self, works: Sequence[Work]) -> bool:
        """Whether the loop should call `work_here` with `works` rather than `put`."""
        if not self._policy.is_inline or not self._idle or self.is_closed or self._delivered != self._ended:
            return False
        return all(type(work) in _PLAIN for work in works)

    def work_here(self, works: Sequence[Work]) -> list[Input]:
        """Commit `works`, blocking; return what is for the core, nothing if the runner ends it.

        Raises:
            ReplicaStoppedError: a write or flush failed (R-IOERR).
        """
        assert self.may_work_here(works)
        # Not idle again if this fails: then nothing more is ever done.
        self._idle = False
        self.jobs_here += 1
        for work in works:
            self._store.put(work)
        job = self._store.take()
        assert job is not None, "no storage work"
        try:
            done = self._run_here(job)
        except StorageError as error:
            raise _stopped(error) from error
        if done is None:
            return []
        following = self._store.take()
        if following is None:
            self._idle = True
        else:  # The next segment wants zeros: nobody waits for those.
            self._hand_over(following)
        return self._sift(done)

    def _run_here(self, job: StorageJob) -> tuple[Completion, ...] | None:
        """Run a job in the loop; None: the runner goes on with it."""
        started = self._clock()
        outcome: object = None
        while True:
            try:
                step = resume(job, outcome)
            except StopIteration as end:
                done: tuple[Completion, ...] = end.value
                self._policy.note(self._clock() - started)
                return done
            seconds = self._clock() - started
            if seconds > BLOCKING_SECONDS_MAX:
                self._policy.note(seconds)
            elif type(step) is Write or type(step) is Flush:
                outcome = attempt(self._disk, step)
                continue
            self._hand_over(_rest_of(job, step))
            return None

    def _hand_over(self, job: StorageJob) -> None:
        with self._lock:
            self._handed.append(job)
            self._runner.call()

    def _deliver(self, done: tuple[Completion, ...]) -> None:
        """Hand on what is for the core; whatever it was for, there may be a slice to do now."""
        self._delivered += 1
        inputs = self._sift(done)
        if inputs:
            self._inbox.put(inputs)
        else:
            self._inbox.ring()

    # --- In the runner (`Jobs`) -------------------------------------------------------------------

    def take(self) -> StorageJob | None:
        """Return the next job; None when there is nothing to do until the next call."""
        with self._lock:
            job = self._handed.popleft() if self._handed else self._store.take()
            self._idle = job is None
            self._taken_at = self._clock()
            return job

    def ended(self, done: tuple[Completion, ...]) -> None:
        """Tell the loop what is done."""
        if any(type(completion) is WalDone or type(completion) is SuperblockDone for completion in done):
            self._policy.note(self._clock() - self._taken_at)  # Other jobs tell nothing of group commits.
        if done:
            self._ended += 1
            self._token.run_sync_soon(self._deliver, done)

    def failed(self, error: BaseException) -> None:
        """Let the task that owns the replica raise `error`."""
        if isinstance(error, StorageError):
            error = _stopped(error)
        try:
            self._token.run_sync_soon(self._inbox.fail, error)
        except trio.RunFinishedError:
            return


def _stopped(error: StorageError) -> ReplicaStoppedError:
    stopped = ReplicaStoppedError("storage", f"{error}; never retried, restart to scan the device (R-IOERR)")
    stopped.__cause__ = error
    return stopped


def _rest_of(job: StorageJob, step: Step) -> StorageJob:
    """A job that goes on where `job` was left, about to take `step`."""
    while True:
        outcome: object
        try:
            outcome = yield step
        except DiskFullError as error:
            outcome = error
        try:
            step = resume(job, outcome)
        except StopIteration as end:
            done: tuple[Completion, ...] = end.value
            return done
