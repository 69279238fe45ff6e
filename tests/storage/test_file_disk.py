"""Real files: the lock, the errors and their words, and a store on top (R-IOERR)."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.storage.fixtures import CLUSTER, INCARNATION, SEGMENT_SIZE, append, chain, image, opened, proof_for
from trio_pb.core.ports import Scrub, Scrubbed, SuperblockDone, SuperblockWrite, WalAppend, WalDone
from trio_pb.driver import file_disk
from trio_pb.driver.file_disk import DESCRIPTORS_MAX, LOCK_FILE, FileDisk
from trio_pb.errors import DataDirectoryError, DiskFullError, StorageError
from trio_pb.storage.disk import Allocate, Flush, ListFiles, Read, Remove, Rename, Write, run
from trio_pb.storage.store import format_directory


def test_store_on_real_files(tmp_path: Path) -> None:
    """Format, append, close, open again: the data is there, the directory is as documented."""
    directory = tmp_path / "data" / "replica-0"
    prepares = chain(20)
    with FileDisk(directory, create=True) as disk:
        run(
            disk,
            format_directory(
                cluster=CLUSTER, replica=0, incarnation=INCARNATION, voters=(0,), segment_size=SEGMENT_SIZE
            ),
        )
        store, start = opened(disk)
        assert start.superblock.born
        for prepare in prepares:
            store.put(append(prepare))
            job = store.take()
            assert job is not None
            assert run(disk, job) == (WalDone(prepare.op),)
    assert sorted(path.name for path in directory.iterdir()) == [LOCK_FILE, "identity", "log", "proofs", "superblock"]
    with FileDisk(directory) as disk:
        _, start = opened(disk)
        assert [record.op for record in start.scan.records] == list(range(1, 21))
        assert start.scan.proof is not None
        assert start.scan.proof.acked == 20


def test_files_that_vanish_under_a_running_replica_are_missed_and_made_anew(tmp_path: Path) -> None:
    """A descriptor goes on to read and write what nobody will ever find again: scrubbing looks at the names."""
    directory = tmp_path / "data"
    prepares = chain(3)
    with FileDisk(directory, create=True) as disk:
        run(
            disk,
            format_directory(
                cluster=CLUSTER, replica=0, incarnation=INCARNATION, voters=(0,), segment_size=SEGMENT_SIZE
            ),
        )
        store, _ = opened(disk)
        for prepare in prepares:
            store.put(append(prepare))
            job = store.take()
            assert job is not None
            run(disk, job)
        shutil.rmtree(directory / "log")
        (directory / "proofs").unlink()
        (directory / "superblock").rename(directory / "old")
        store.put(Scrub())
        job = store.take()
        assert job is not None
        [found] = run(disk, job)
        assert found == Scrubbed(records=tuple(it.id for it in prepares), proofs=True, superblock=True)
        store.put(SuperblockWrite(1, image(1)))
        store.put(WalAppend(4, tuple(prepares), proof_for(chain(1, after=prepares[-1])[0])))
        job = store.take()
        assert job is not None
        assert run(disk, job) == (WalDone(4), SuperblockDone(1))
    with FileDisk(directory) as disk:
        _, start = opened(disk)
        assert start.superblock.view == 1
        assert [record.op for record in start.scan.records] == [1, 2, 3]
        assert start.scan.proof is not None


def test_steps_do_what_they_say(tmp_path: Path) -> None:
    """Each step on real files, with its edge: no file, the end of the file, a hole, a replaced file."""
    with FileDisk(tmp_path) as disk:
        assert disk.do(Read("log/a", 0, 10)) == b""
        assert disk.do(ListFiles("log")) == ()
        disk.do(Write("log/a", 3, b"abc"))
        disk.do(Flush("log/a"))
        assert disk.do(Read("log/a", 0, 100)) == b"\0\0\0abc"
        assert disk.do(Read("log/a", 4, 1)) == b"b"
        assert disk.do(Read("log/a", 6, 5)) == b""
        disk.do(Allocate("log/b", 3 << 20))
        assert disk.do(Read("log/b", 0, 4 << 20)) == bytes(3 << 20)
        disk.do(Write("log/b", 0, b"new"))
        disk.do(Rename("log/b", "log/a"))
        assert disk.do(Read("log/a", 0, 3)) == b"new"
        assert disk.do(ListFiles("log")) == ("a",)
        disk.do(Allocate("log/a", 4096))
        assert disk.do(Read("log/a", 0, 9000)) == bytes(4096)
        disk.do(Remove("log/a"))
        disk.do(Remove("log/a"))
        assert disk.do(Read("log/a", 0, 3)) == b""
        disk.do(Flush("log/a"))
        disk.do(Write("identity", 0, b"x"))
        assert disk.do(ListFiles("")) == ("identity",)


def test_second_process_is_refused(tmp_path: Path) -> None:
    """The lock names the directory, and goes with the disk."""
    with FileDisk(tmp_path), pytest.raises(DataDirectoryError, match=f"{tmp_path}: in use"):
        FileDisk(tmp_path)
    FileDisk(tmp_path).close()


def test_missing_directory_is_refused(tmp_path: Path) -> None:
    """Opening never makes a directory: a wrong path is told, and left alone."""
    with pytest.raises(DataDirectoryError, match="trio-pb format"):
        FileDisk(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


def test_foreign_directory_is_refused_untouched(tmp_path: Path) -> None:
    """Somebody's home directory gets no lock file."""
    (tmp_path / "letter.txt").write_text("Dear Ada")
    with pytest.raises(DataDirectoryError, match="not a data directory"):
        FileDisk(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def open_descriptors() -> int:
    """Return how many files this process has open."""
    return len(os.listdir("/dev/fd"))


def test_more_files_than_descriptors(tmp_path: Path) -> None:
    """Descriptors are few and reused; unflushed writes are not closed away, and every file stays readable."""
    with FileDisk(tmp_path) as disk:
        before = open_descriptors()
        for number in range(DESCRIPTORS_MAX + 10):
            disk.do(Write(f"log/{number}", 0, b"%d" % number))
            disk.do(Flush(f"log/{number}"))
        for number in range(DESCRIPTORS_MAX + 10):
            assert disk.do(Read(f"log/{number}", 0, 10)) == b"%d" % number
        assert open_descriptors() <= before + DESCRIPTORS_MAX


class FaultyOs:
    """The `os` module, with calls that fail or fall short."""

    def __init__(self, **calls: Callable[..., object]) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> object:
        return self._calls.get(name) or getattr(os, name)


def failing(number: int) -> Callable[..., object]:
    """Return a system call that always fails."""

    def call(*_: object) -> object:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.skipif(sys.platform == "darwin", reason="flushes by another call there")
def test_failed_flush_is_final_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush that fails says which file, which error, what to do."""
    with FileDisk(tmp_path) as disk:
        disk.do(Write("proofs", 0, b"x"))
        monkeypatch.setattr(file_disk, "os", FaultyOs(fdatasync=failing(errno.EIO)))
        with pytest.raises(StorageError, match=r"proofs: flush failed: EIO .* never retries"):
            disk.do(Flush("proofs"))


@pytest.mark.parametrize("step", [Write("log/a", 4096, b"x"), Allocate("log/a", 4096)])
def test_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Write | Allocate) -> None:
    """ENOSPC says that the disk is full, where, and what to do; half-made files are not left in the way."""
    with FileDisk(tmp_path) as disk:
        with monkeypatch.context() as patch:
            patch.setattr(file_disk, "os", FaultyOs(pwrite=failing(errno.ENOSPC)))
            with pytest.raises(DiskFullError, match=r"log/a.*ENOSPC.*the disk is full: free space"):
                disk.do(step)
        assert {path.name for path in tmp_path.iterdir()} <= {LOCK_FILE, "log"}
        disk.do(step)


@pytest.mark.skipif(sys.platform == "darwin", reason="flushes by another call there")
def test_flush_without_room_is_a_failed_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written is lost then: nothing to wait for (R-IOERR)."""
    with FileDisk(tmp_path) as disk:
        disk.do(Write("proofs", 0, b"x"))
        monkeypatch.setattr(file_disk, "os", FaultyOs(fdatasync=failing(errno.ENOSPC)))
        with pytest.raises(StorageError, match=r"proofs: flush failed: ENOSPC .* never retries") as caught:
            disk.do(Flush("proofs"))
        assert not isinstance(caught.value, DiskFullError)


def test_unreadable_page_reads_as_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO costs the page that has it, not its neighbours (R-IOERR: a failed read equals corruption)."""

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        if offset < 8192 and offset + size > 4096:
            raise OSError(errno.EIO, "bad sector")
        return os.pread(descriptor, size, offset)

    with FileDisk(tmp_path) as disk:
        disk.do(Write("a", 0, b"x" * 10_000))
        monkeypatch.setattr(file_disk, "os", FaultyOs(pread=pread))
        assert disk.do(Read("a", 100, 20_000)) == b"x" * 3996 + bytes(4096) + b"x" * 1808


def test_short_reads_and_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may take or give less than asked."""

    def pwrite(descriptor: int, data: bytes | memoryview, offset: int) -> int:
        return os.pwrite(descriptor, bytes(data[:1000]), offset)

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        return os.pread(descriptor, min(size, 700), offset)

    data = os.urandom(10_000)
    with FileDisk(tmp_path) as disk:
        monkeypatch.setattr(file_disk, "os", FaultyOs(pwrite=pwrite, pread=pread))
        disk.do(Write("a", 5, data))
        assert disk.do(Read("a", 5, 20_000)) == data
