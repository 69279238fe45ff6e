"""The thread that runs storage jobs beside the loop, so that the loop never waits for a slow disk (R-OUT1).

The disk does not idle while the loop is busy with a step. A round trip was measured at three quarters to four
fifths of a `trio.to_thread` call.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue

import trio

from trio_pb.driver.disk_work import Jobs
from trio_pb.storage.disk import Disk, run

__all__ = ["DiskThread"]


class DiskThread:
    """Runs what `jobs` has to do on `disk`, one job after the other, in a thread of its own (`disk_work.Runner`)."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self, disk: Disk, jobs: Jobs) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._work, args=(disk, jobs), name="trio_pb disk", daemon=True)
        self._thread.start()

    def call(self) -> None:
        """Have `jobs` looked at again."""
        self._calls.put(None)

    async def join(self, timeout_seconds: float) -> bool:
        """Wait for the thread to end, which it does once its jobs are closed; return whether it did in time.

        A thread that hangs in a flush is left to the end of the process: waiting for a dead disk
        would only keep a replica from being restarted.
        """
        if self._thread is None:
            return True
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join, timeout_seconds)
        return not self._thread.is_alive()

    def _work(self, disk: Disk, jobs: Jobs) -> None:
        try:
            while not jobs.is_closed:
                job = jobs.take()
                if job is None:
                    self._calls.get()
                else:
                    jobs.ended(run(disk, job))
        except trio.RunFinishedError:
            return  # Nobody is left to tell.
        # Whatever went wrong belongs to the task that owns the replica, and ends it there.
        except BaseException as error:
            jobs.failed(error)
