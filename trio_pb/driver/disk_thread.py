"""The thread that does storage work, so that the loop never waits for a slow disk (R-OUT1).

The loop queues outputs; the thread takes all that is queued as one job (group commit), runs it,
hands the completions back through the Trio token and takes the next. A round trip was measured at
three quarters to four fifths of a `trio.to_thread` call; above all, the disk does not idle while the
loop is busy with a step.

While the disk is measured fast and the thread has nothing to do, the loop may run a plain group commit
itself (`work_here`): with one customer that saved a quarter of a replica's processor time per order,
since the two threads hand the interpreter to one another at every system call. The loop gives a job up
to the thread after `BLOCKING_SECONDS_MAX`, and before any step that is not a plain write or flush; so
it is blocked for at most that time and one step. Checkpoints, transfers and scrubbing are the thread's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from time import perf_counter
from typing import Protocol, TypeAlias

import trio

from trio_pb.core.ports import Input, SuperblockDone, SuperblockWrite, WalAppend, WalDone
from trio_pb.driver.flush_policy import BLOCKING_SECONDS_MAX, FlushPolicy
from trio_pb.driver.inbox import Inbox
from trio_pb.errors import DiskFullError, ReplicaStoppedError, StorageError
from trio_pb.storage.disk import Disk, Flush, Job, Step, Write, run
from trio_pb.storage.work import Completion, Work

__all__ = ["DiskThread", "Sift", "StorageQueue"]

StorageJob: TypeAlias = Job[tuple[Completion, ...]]
Sift: TypeAlias = Callable[[Sequence[Completion]], list[Input]]

# What a group commit consists of; the loop does nothing else itself.
_PLAIN = frozenset({WalAppend, SuperblockWrite})


class StorageQueue(Protocol):
    """The part of `storage.store.Store` that the thread uses."""

    def put(self, work: Work, /) -> None:
        """Queue one thing to do."""
        ...

    def take(self) -> StorageJob | None:
        """Return a group commit or a slice of longer work as one job, or None when there is nothing to do."""
        ...


class DiskThread:
    """Owns `store` and `disk` from `start` until `close` returned.

    `sift` is called in the loop with all completions and returns those that are for the core.
    """

    def __init__(
        self,
        store: StorageQueue,
        disk: Disk,
        inbox: Inbox,
        *,
        sift: Sift,
        policy: FlushPolicy | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._store = store
        self._disk = disk
        self._inbox = inbox
        self._sift = sift
        self._policy = policy or FlushPolicy()
        self._clock = clock  # Seconds; both threads read it.
        self._token = trio.lowlevel.current_trio_token()
        # `put` in the loop and `take` in the thread exclude one another; a job runs outside the lock.
        self._lock = threading.Lock()
        # The thread waits for a call, and until it gets one, store and disk are the loop's. Only the
        # thread sets this, only the loop resets it.
        self._idle = False
        self._stopping = False
        self._calls: SimpleQueue[StorageJob | None] = SimpleQueue()  # A job to run, or None: look at the store.
        self._thread = threading.Thread(target=self._work, name="trio_pb disk", daemon=True)
        self.jobs_here = 0  # Done by the loop, to the end or in part.

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, works: Iterable[Work]) -> None:
        """Queue `works`, together: appends of one turn are flushed as one group."""
        with self._lock:
            for work in works:
                self._store.put(work)
            if self._idle:
                self._idle = False
                self._calls.put(None)

    def may_work_here(self, works: Sequence[Work]) -> bool:
        """Whether the loop should call `work_here` with `works` rather than `put`."""
        if not self._policy.is_inline or not self._idle or self._stopping:
            return False
        return all(type(work) in _PLAIN for work in works)

    def work_here(self, works: Sequence[Work]) -> list[Input]:
        """Commit `works`, blocking; return what is for the core, nothing if the thread ends it.

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
            self._calls.put(following)
        return self._sift(done)

    async def close(self, timeout_seconds: float) -> bool:
        """Let the running job end, drop what is queued; return whether the thread ended in time.

        A thread that hangs in a flush is left to the end of the process: waiting for a dead disk
        would only keep a replica from being restarted.
        """
        with self._lock:
            self._stopping = True
            self._calls.put(None)
        if self._thread.ident is None:
            return True
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join, timeout_seconds)
        return not self._thread.is_alive()

    def _run_here(self, job: StorageJob) -> tuple[Completion, ...] | None:
        """Run a job in the loop; None: the thread goes on with it."""
        started = self._clock()
        result: object = None
        full: DiskFullError | None = None
        while True:
            try:
                step = job.send(result) if full is None else job.throw(full)
            except StopIteration as end:
                done: tuple[Completion, ...] = end.value
                self._policy.note(self._clock() - started)
                return done
            full = None
            seconds = self._clock() - started
            if seconds > BLOCKING_SECONDS_MAX:
                self._policy.note(seconds)
            elif type(step) is Write or type(step) is Flush:
                try:
                    result = self._disk.do(step)
                except DiskFullError as error:
                    full = error
                continue
            self._calls.put(_rest_of(job, step))
            return None

    def _take(self) -> StorageJob | None:
        with self._lock:
            job = self._store.take()
            self._idle = job is None
            return job

    def _work(self) -> None:
        job: StorageJob | None = None
        try:
            while not self._stopping:
                if job is None:
                    job = self._take()
                if job is None:
                    job = self._calls.get()
                    continue
                started = self._clock()
                done = run(self._disk, job)
                if any(type(completion) is WalDone or type(completion) is SuperblockDone for completion in done):
                    self._policy.note(self._clock() - started)  # Other jobs tell nothing of group commits.
                job = None
                if done:
                    self._token.run_sync_soon(self._deliver, done)
        except trio.RunFinishedError:
            return  # Nobody is left to tell.
        # Whatever went wrong belongs to the task that owns the replica, and ends it there.
        except BaseException as error:
            self._report(error)

    def _deliver(self, done: tuple[Completion, ...]) -> None:
        """In the loop: hand on what is for the core; whatever it was for, there may be a slice to do now."""
        inputs = self._sift(done)
        if inputs:
            self._inbox.put(inputs)
        else:
            self._inbox.ring()

    def _report(self, error: BaseException) -> None:
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
        full: DiskFullError | None = None
        result: object = None
        try:
            result = yield step
        except DiskFullError as error:
            full = error
        try:
            step = job.send(result) if full is None else job.throw(full)
        except StopIteration as end:
            done: tuple[Completion, ...] = end.value
            return done
