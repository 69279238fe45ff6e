"""Disks with faults over real files: they forget at a kill what was not flushed, fill up, are slow, or never flush."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from trio_pb.driver.file_disk import FileDisk
from trio_pb.storage.disk import Allocate, Flush, ListFiles, Read, Remove, Rename, Step, Write

__all__ = ["FillingDisk", "SlowDisk", "UnflushedDisk", "VolatileDisk", "disk_by_name"]


class VolatileDisk(FileDisk):
    """Keeps writes in memory until their file is flushed: to SIGKILL it, is to cut its power.

    A kill during a flush leaves any part of it, in order. Everything else that the contract of a disk
    calls durable at once goes straight to the files.
    """

    def __init__(self, directory: Path | str) -> None:
        super().__init__(directory)
        self._unflushed: dict[str, list[Write]] = {}  # By file.

    def do(self, step: Step) -> object:
        """Carry out `step`, writes in memory only."""
        match step:
            case Write(file):
                self._unflushed.setdefault(file, []).append(step)
                return None
            case Flush(file):
                for write in self._unflushed.pop(file, []):
                    super().do(write)
            case Read(file, offset, size):
                return self._overlay(super().do(step), file, offset, size)
            case ListFiles(folder):
                return self._with_new(super().do(step), folder)
            case Allocate(file) | Remove(file):
                self._unflushed.pop(file, None)
            case Rename(file, to):
                assert file not in self._unflushed, f"{file} is renamed before it was flushed"
                self._unflushed.pop(to, None)
        return super().do(step)

    def _overlay(self, read: object, file: str, offset: int, size: int) -> bytes:
        assert type(read) is bytes
        data = bytearray(read)
        for write in self._unflushed.get(file, []):
            start, end = max(write.offset, offset), min(write.offset + len(write.data), offset + size)
            if start < end:
                data.extend(bytes(max(0, end - offset - len(data))))
                data[start - offset : end - offset] = write.data[start - write.offset : end - write.offset]
        return bytes(data)

    def _with_new(self, listed: object, folder: str) -> tuple[str, ...]:
        names = cast("tuple[str, ...]", listed)
        new = {os.path.basename(file) for file in self._unflushed if os.path.dirname(file) == folder}
        return tuple(sorted({*names, *new}))


class FillingDisk(FileDisk):
    """Has no room for a new or longer file while `is_full` says so; what is there can be overwritten."""

    def __init__(self, directory: Path | str, is_full: Callable[[], bool]) -> None:
        super().__init__(directory)
        self._is_full = is_full

    def do(self, step: Step) -> object:
        """Carry out `step`, or find no room.

        Raises:
            DiskFullError, StorageError: as every disk.
        """
        match step:
            case Write(file, offset, data):
                self._find_room(file, offset + len(data))
            case Allocate(file, size):
                self._find_room(file, size)
            case _:
                pass
        return super().do(step)

    def _find_room(self, file: str, end: int) -> None:
        path = self.directory / file
        size = path.stat().st_size if path.exists() else 0
        if end > size and self._is_full():
            with self._failing(file, None, "write"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class UnflushedDisk(FileDisk):
    """Says of a flush that it is done, and leaves it to the kernel: nothing survives a power cut for certain."""

    def do(self, step: Step) -> object:
        """Carry out `step`, flushes excepted."""
        return None if type(step) is Flush else super().do(step)


class SlowDisk(FileDisk):
    """Takes so many seconds longer for each flush."""

    def __init__(self, directory: Path | str, flush_seconds: float) -> None:
        super().__init__(directory)
        self._flush_seconds = flush_seconds

    def do(self, step: Step) -> object:
        """Carry out `step`, flushes late."""
        if type(step) is Flush:
            time.sleep(self._flush_seconds)
        return super().do(step)


def disk_by_name(name: str) -> Callable[[Path | str], FileDisk]:
    """The disk that `volatile`, `unflushed`, `slow:SECONDS` or `full-while:PATH` means."""
    kind, _, argument = name.partition(":")
    match kind:
        case "volatile":
            return VolatileDisk
        case "unflushed":
            return UnflushedDisk
        case "slow":
            return partial(SlowDisk, flush_seconds=float(argument))
        case _:
            assert kind == "full-while", f"no disk is called {name!r}"
            return partial(FillingDisk, is_full=Path(argument).exists)
