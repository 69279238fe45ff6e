"""A `Disk` over a real directory that only looks: no lock is taken, nothing is created, nothing is written."""

from __future__ import annotations

import os
from pathlib import Path

from trio_pb.errors import DataDirectoryError, LocalProtocolError
from trio_pb.storage.disk import ListFiles, Read, Step
from trio_pb.storage.identity import IDENTITY_FILE

__all__ = ["ReadOnlyDisk"]

PAGE_SIZE = 4096  # Grain in which an unreadable range is narrowed down.


class ReadOnlyDisk:
    """Files below `directory`; satisfies `Disk` for jobs that only look. Nothing is created, locked or written."""

    def __init__(self, directory: Path) -> None:
        """Look whether it is a data directory at all.

        Raises:
            DataDirectoryError: it is not.
        """
        if not directory.is_dir():
            raise DataDirectoryError(f"{directory}: no such directory; name the data directory of a replica")
        if not (directory / IDENTITY_FILE).is_file():
            raise DataDirectoryError(
                f"{directory}: not a data directory of trio_pb (no file {IDENTITY_FILE}); nothing was touched"
            )
        self._directory = directory

    def do(self, step: Step) -> object:
        """Carry out a Read or ListFiles.

        Raises:
            DataDirectoryError: a file may not be read.
            LocalProtocolError: the step would change something.
        """
        match step:
            case Read(file, offset, size):
                return self._read(self._directory / file, offset, size)
            case ListFiles(folder):
                return self._list(self._directory / folder)
            case _:
                raise LocalProtocolError(f"{type(step).__name__} on a disk that is only read")

    def _read(self, path: Path, offset: int, size: int) -> bytes:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise DataDirectoryError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            end = min(offset + size, os.fstat(descriptor).st_size)
            return _read_range(descriptor, offset, end)
        finally:
            os.close(descriptor)

    def _list(self, path: Path) -> tuple[str, ...]:
        try:
            return tuple(sorted(entry.name for entry in path.iterdir() if entry.is_file() and not entry.is_symlink()))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise DataDirectoryError(f"{path}: cannot be listed: {error.strerror}") from error


def _read_range(descriptor: int, offset: int, end: int) -> bytes:
    """Read a range; pages that the device refuses come back as zeros, as a replica reads them (R-IOERR)."""
    pieces: list[bytes] = []
    while offset < end:
        try:
            piece = os.pread(descriptor, end - offset, offset)
            if not piece:
                break
        except OSError:
            stop = min(end, (offset // PAGE_SIZE + 1) * PAGE_SIZE)
            try:
                piece = os.pread(descriptor, stop - offset, offset)
            except OSError:
                piece = bytes(stop - offset)
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)
