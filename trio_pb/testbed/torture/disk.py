"""A disk that fails as it is told: full, slow, with failing writes or flushes, with pages that cannot be read."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

from trio_pb.storage.disk import Allocate, Flush, Read, Step, Write
from trio_pb.testbed.faulty_disks import FillingDisk, VolatileDisk
from trio_pb.testbed.torture.troubles import Troubles

__all__ = ["FailingDisk"]

PAGE_SIZE = 4096
# Unreadable pages are those of the log and of checkpoints: a replica whose superblock cannot be read is lost, and
# one that reads an old proof, and not the records above it, has forgotten what it promised (PROTOCOL 7.4).
MAY_BE_UNREADABLE = ("log/", "checkpoints/")


class FailingDisk(FillingDisk, VolatileDisk):
    """What was not flushed is gone when the process is killed; everything else goes wrong while `troubles` says so."""

    def __init__(self, directory: Path | str, troubles: Callable[[], Troubles]) -> None:
        super().__init__(directory, is_full=lambda: troubles().is_full)
        self._troubles = troubles

    def do(self, step: Step) -> object:
        """Carry out `step`, or fail.

        Raises:
            DiskFullError, StorageError: as every disk.
        """
        troubles = self._troubles()
        if troubles.step_seconds and isinstance(step, Write | Flush | Allocate):
            time.sleep(troubles.step_seconds)
        if isinstance(step, Write) and troubles.fails == "write":
            self._fail(step.file, "write")
        if isinstance(step, Flush) and troubles.fails == "flush":
            self._fail(step.file, "flush")
        result = super().do(step)
        if isinstance(step, Read) and troubles.unreadable_share and step.file.startswith(MAY_BE_UNREADABLE):
            assert type(result) is bytes
            return _with_holes(result, step, troubles.unreadable_share)
        return result

    def _fail(self, file: str, doing: str) -> None:
        with self._failing(file, None, doing):
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def _with_holes(data: bytes, read: Read, share: float) -> bytes:
    """Zeros in place of unreadable pages, as `FileDisk` gives them; the same pages every time."""
    found = bytearray(data)
    for page in range(read.offset // PAGE_SIZE, -(-(read.offset + len(data)) // PAGE_SIZE)):
        if _draw(read.file, page) < share:
            start = max(page * PAGE_SIZE - read.offset, 0)
            end = min((page + 1) * PAGE_SIZE - read.offset, len(data))
            found[start:end] = bytes(end - start)
    return bytes(found)


def _draw(file: str, page: int) -> float:
    """A number in [0, 1) that belongs to a page."""
    return int.from_bytes(blake2b(f"{file} {page}".encode(), digest_size=4).digest(), "big") / 2**32
