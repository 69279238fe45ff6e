"""What a replica asks of the machine under it: connections, a disk, somebody who waits for it, the date.

The driver above this line is the same everywhere. A test or a simulation gives another `Platform`, of
which any part may still be the real one.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

import attrs
import trio

from trio_pb.driver.disk_thread import DiskThread
from trio_pb.driver.disk_work import Runner
from trio_pb.driver.file_disk import FileDisk
from trio_pb.driver.tcp import Dial, Listening, dial_tcp, listen_tcp
from trio_pb.storage.disk import Disk, Job, run

__all__ = ["OpenedDisk", "Platform", "open_file_disk"]

T = TypeVar("T")

Listen: TypeAlias = Callable[[str], Awaitable[Listening]]  # Given "host:port"; raises ConfigError.


class OpenedDisk(Disk, Protocol):
    """A data directory that is ours until we close it."""

    def close(self) -> None:
        """Let go of it."""
        ...


class RunJob(Protocol):
    """Runs a storage job while the caller waits, and others do not."""

    def __call__(self, disk: Disk, job: Job[T], /) -> Awaitable[T]:
        """Return what the job does."""
        ...


async def open_file_disk(directory: Path | str) -> OpenedDisk:
    """Open a directory of files.

    Raises:
        DataDirectoryError: it is missing, foreign or in use.
    """
    return await trio.to_thread.run_sync(FileDisk, directory)


async def run_in_thread(disk: Disk, job: Job[T]) -> T:
    """Run `job` in a thread."""
    return await trio.to_thread.run_sync(run, disk, job)


@attrs.frozen(kw_only=True)
class Platform:
    """The real one, unless told otherwise."""

    listen: Listen = listen_tcp
    dial: Dial = dial_tcp
    open_disk: Callable[[Path | str], Awaitable[OpenedDisk]] = open_file_disk
    run_job: RunJob = run_in_thread
    make_runner: Callable[[], Runner] = DiskThread  # Of the storage work of one replica.
    storage_clock: Callable[[], float] = time.perf_counter  # Seconds, by which storage work is timed.
    wall_ns: Callable[[], int] = time.time_ns  # Since 1970; may jump.
