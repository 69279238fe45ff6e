"""The thread that does storage work, so that the loop never waits for a disk (R-OUT1).

The loop queues outputs; the thread takes all that is queued as one job (group commit), runs it,
hands the completions back through the Trio token and takes the next. A round trip was measured at
three quarters to four fifths of a `trio.to_thread` call; above all, the disk does not idle while the
loop is busy with a step.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from queue import SimpleQueue
from typing import Protocol, TypeAlias

import trio

from trio_pb.core.ports import Input, SuperblockWrite, WalAppend, WalRead
from trio_pb.driver.inbox import Inbox
from trio_pb.errors import ReplicaStoppedError, StorageError
from trio_pb.storage.disk import Disk, Job, run

__all__ = ["DiskThread", "StorageQueue", "StorageWork"]

StorageWork: TypeAlias = WalAppend | SuperblockWrite | WalRead


class StorageQueue(Protocol):
    """The part of `storage.store.Store` that the thread uses."""

    def put(self, output: StorageWork) -> None:
        """Queue one output."""
        ...

    def take(self) -> Job[tuple[Input, ...]] | None:
        """Return all queued work as one job, or None when there is none."""
        ...


class DiskThread:
    """Owns `store` and `disk` from `start` until `close` returned."""

    def __init__(self, store: StorageQueue, disk: Disk, inbox: Inbox) -> None:
        self._store = store
        self._disk = disk
        self._inbox = inbox
        self._token = trio.lowlevel.current_trio_token()
        # `put` in the loop and `take` in the thread exclude one another; a job runs outside the lock.
        self._lock = threading.Lock()
        self._idle = False
        self._stopping = False
        self._calls: SimpleQueue[None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="trio_pb disk", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, outputs: Iterable[StorageWork]) -> None:
        """Queue `outputs`, together: work of one turn is flushed as one group."""
        with self._lock:
            for output in outputs:
                self._store.put(output)
            if self._idle:
                self._idle = False
                self._calls.put(None)

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

    def _take(self) -> Job[tuple[Input, ...]] | None:
        with self._lock:
            job = self._store.take()
            self._idle = job is None
            return job

    def _work(self) -> None:
        try:
            while not self._stopping:
                job = self._take()
                if job is None:
                    self._calls.get()
                else:
                    self._token.run_sync_soon(self._inbox.put, run(self._disk, job))
        except trio.RunFinishedError:
            return  # Nobody is left to tell.
        # Whatever went wrong belongs to the task that owns the replica, and ends it there.
        except BaseException as error:
            self._report(error)

    def _report(self, error: BaseException) -> None:
        if isinstance(error, StorageError):
            stopped = ReplicaStoppedError("storage", f"{error}; never retried, restart to scan the device (R-IOERR)")
            stopped.__cause__ = error
            error = stopped
        try:
            self._token.run_sync_soon(self._inbox.fail, error)
        except trio.RunFinishedError:
            return
