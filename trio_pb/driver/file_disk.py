"""A `Disk` over a real directory: plain files, pread and pwrite, fdatasync.

Runs in the disk thread of a replica; every call blocks. A read error comes back as zeros, a failed
write or flush is final: the kernel may have dropped the dirty pages, so a retry could succeed without
the data ever reaching the device (R-IOERR, T-12).
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from trio_pb.errors import DataDirectoryError, DiskFullError, StorageError
from trio_pb.storage.disk import Allocate, Flush, ListFiles, Read, Remove, Rename, Step, Write

__all__ = ["LOCK_FILE", "FileDisk"]

LOCK_FILE = "LOCK"

DESCRIPTORS_MAX = 64  # Kept open; a repairing replica reads old segments at random.
PAGE_SIZE = 4096  # Grain in which an unreadable range is narrowed down.
_ALLOCATING = "ALLOCATING"  # Scratch name of a file being zero-filled; a crash leaves at most this one behind.
_ZEROS = bytes(1 << 20)


class FileDisk:
    """Files below `directory`, locked against every other process until `close`."""

    def __init__(self, directory: Path | str, *, create: bool = False) -> None:
        """Lock the directory; with `create` make it if missing.

        Raises:
            DataDirectoryError: missing, not accessible, or another process holds its lock.
        """
        self.directory = Path(directory)
        self._root = os.fspath(self.directory)
        self._descriptors: OrderedDict[str, int] = OrderedDict()  # Least recently used first.
        self._dirty: set[str] = set()  # Written since their last flush: never closed before it.
        self._new: set[str] = set()  # Created since the last fsync of their directory.
        try:
            if create:
                _make_directory(self._root)
            elif _is_foreign(self._root):
                # Before the lock file: nothing of somebody else's directory is touched.
                raise DataDirectoryError(f"{self._root}: not a data directory of trio_pb (no file `identity`)")
            self._lock = os.open(self._path(LOCK_FILE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            hint = "" if create else "; run `trio-pb format` to make a new data directory"
            raise DataDirectoryError(f"{self._root}: cannot be used as a data directory: {error}{hint}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise DataDirectoryError(
                f"{self._root}: in use: another process holds {LOCK_FILE}; stop that replica first"
            ) from error

    def __enter__(self) -> FileDisk:
        """Return itself; `close` runs at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Release all files and the lock. What was not flushed is not durable."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def do(self, step: Step) -> object:
        """Carry out `step`; results and errors as `storage.disk` says."""
        assert self._lock >= 0, "the disk is closed"
        match step:
            case Write(file, offset, data):
                self._write(file, offset, data)
            case Flush(file):
                self._flush(file)
            case Read(file, offset, size, is_from_device):
                return self._read(file, offset, size, is_from_device=is_from_device)
            case Allocate(file, size):
                self._allocate(file, size)
            case ListFiles(folder):
                return self._list(folder)
            case Rename(file, to):
                self._rename(file, to)
            case Remove(file):
                self._remove(file)
        return None

    def _write(self, file: str, offset: int, data: bytes) -> None:
        with self._failing(file, offset, "write"):
            descriptor = self._open(file, create=True)
            assert descriptor is not None
            self._dirty.add(file)
            _write_all(descriptor, data, offset)

    def _flush(self, file: str) -> None:
        with self._failing(file, None, "flush"):
            descriptor = self._open(file, create=False)
            if descriptor is None:
                return
            _sync_data(descriptor)
            self._dirty.discard(file)
            if file in self._new:
                _sync_directory(os.path.dirname(self._path(file)))
                self._new.discard(file)

    def _read(self, file: str, offset: int, size: int, *, is_from_device: bool) -> bytes:
        with self._failing(file, offset, "open"):
            if is_from_device:
                self._forget_vanished(file)
            descriptor = self._open(file, create=False)
        if descriptor is None:
            return b""
        end = min(offset + size, os.fstat(descriptor).st_size)
        if is_from_device and hasattr(os, "posix_fadvise"):
            # Clean pages leave the cache, also those that a failed flush marked clean.
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
        try:
            return _read_all(descriptor, offset, end)
        except OSError:
            return _read_around_damage(descriptor, offset, end)

    def _allocate(self, file: str, size: int) -> None:
        # Real zeros instead of fallocate: fdatasync over blocks that were written before took 0.1 ms
        # where unwritten extents, which each first write must convert, took 0.2 ms and more.
        scratch = self._path(_ALLOCATING)
        with self._failing(file, None, "allocate"):
            descriptor = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                for offset in range(0, size, len(_ZEROS)):
                    _write_all(descriptor, _ZEROS[: size - offset], offset)
                _sync_data(descriptor)
            except OSError:
                os.unlink(scratch)  # On a full disk these zeros would be in the way of everything else.
                raise
            finally:
                os.close(descriptor)
        self._rename(_ALLOCATING, file)

    def _list(self, folder: str) -> tuple[str, ...]:
        try:
            with os.scandir(self._path(folder)) as entries:
                names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StorageError(f"{self._path(folder)}: list: {error}") from error
        return tuple(sorted(name for name in names if folder or name not in (LOCK_FILE, _ALLOCATING)))

    def _rename(self, file: str, to: str) -> None:
        with self._failing(file, None, f"rename to {to}"):
            self._forget(file)
            self._forget(to)
            source, target = self._path(file), self._path(to)
            _make_directory(os.path.dirname(target))
            os.replace(source, target)
            for parent in sorted({os.path.dirname(target), os.path.dirname(source)}):
                _sync_directory(parent)

    def _remove(self, file: str) -> None:
        with self._failing(file, None, "remove"):
            self._forget(file)
            path = self._path(file)
            try:
                os.unlink(path)
            except FileNotFoundError:
                return
            _sync_directory(os.path.dirname(path))

    def _path(self, file: str) -> str:
        return os.path.join(self._root, *file.split("/")) if file else self._root

    def _open(self, file: str, *, create: bool) -> int | None:
        """Return the descriptor of a file, None when it does not exist and is not to be created."""
        descriptor = self._descriptors.get(file)
        if descriptor is not None:
            self._descriptors.move_to_end(file)
            return descriptor
        if len(self._descriptors) >= DESCRIPTORS_MAX:
            # Closing a file with unflushed writes could lose the error of their writeback.
            oldest = next((name for name in self._descriptors if name not in self._dirty), None)
            if oldest is not None:
                os.close(self._descriptors.pop(oldest))
        path = self._path(file)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            if not create:
                return None
            _make_directory(os.path.dirname(path))
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._new.add(file)
        self._descriptors[file] = descriptor
        return descriptor

    def _forget_vanished(self, file: str) -> None:
        """Somebody removed or replaced the file: what is written to its descriptor goes nowhere any more."""
        descriptor = self._descriptors.get(file)
        if descriptor is None:
            return
        try:
            is_there = os.path.samestat(os.stat(self._path(file)), os.fstat(descriptor))
        except FileNotFoundError:
            is_there = False
        if not is_there:
            self._forget(file)

    def _forget(self, file: str) -> None:
        """The name is about to mean another file, or none."""
        descriptor = self._descriptors.pop(file, None)
        if descriptor is not None:
            os.close(descriptor)
        self._dirty.discard(file)
        self._new.discard(file)

    @contextmanager
    def _failing(self, file: str, offset: int | None, doing: str) -> Generator[None, None, None]:
        """Turn an OSError into the StorageError that says which file, where, and what to do."""
        try:
            yield
        except OSError as error:
            place = self._path(file) + ("" if offset is None else f", offset {offset}")
            number = errno.errorcode.get(error.errno or 0, str(error.errno))
            told = f"{place}: {doing} failed: {number} ({error.strerror})"
            # A flush that finds no room has lost data already: that is no full disk to wait for.
            if error.errno in (errno.ENOSPC, errno.EDQUOT) and doing != "flush":
                raise DiskFullError(f"{told}; the disk is full: free space, then start the replica again") from error
            raise StorageError(
                f"{told}; the replica stops and never retries; check the disk, then start it again to re-read what "
                "is there"
            ) from error


def _is_foreign(path: str) -> bool:
    names = os.listdir(path)
    return bool(names) and LOCK_FILE not in names and "identity" not in names


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):  # A short write is no error: a signal, or the last free blocks of a disk.
        written += os.pwrite(descriptor, memoryview(data)[written:], offset + written)


def _read_all(descriptor: int, offset: int, end: int) -> bytes:
    pieces: list[bytes] = []
    while offset < end:
        piece = os.pread(descriptor, end - offset, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _read_around_damage(descriptor: int, offset: int, end: int) -> bytes:
    """Read page by page, with zeros for those that cannot be read."""
    pieces: list[bytes] = []
    while offset < end:
        stop = min(end, (offset // PAGE_SIZE + 1) * PAGE_SIZE)
        try:
            piece = _read_all(descriptor, offset, stop)
        except OSError:
            piece = b""
        pieces.append(piece.ljust(stop - offset, b"\0"))
        offset = stop
    return b"".join(pieces)


def _make_directory(path: str) -> None:
    """Make a directory and its parents, each durable in its own parent."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(os.path.abspath(path))
    _make_directory(parent)
    os.mkdir(path, 0o700)
    _sync_directory(parent)


def _sync_data(descriptor: int) -> None:
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync there leaves data in the drive's own cache.
    else:
        os.fdatasync(descriptor)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
