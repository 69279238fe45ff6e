"""What a power cut and a crash of the process make of writes."""

from __future__ import annotations

import pytest

from sim.choices import Choices, Key
from sim.disk import SECTOR_SIZE, FakeDisk
from trio_pb.storage.disk import Allocate, Flush, ListFiles, Read, Remove, Rename, Write

LOST, TORN = 1, 2


def _disk(recorded: dict[Key, int] | None = None) -> FakeDisk:
    disk = FakeDisk(0, Choices(1, recorded or {}))
    disk.do(Allocate("file", 4 * SECTOR_SIZE))
    return disk


def _content(disk: FakeDisk) -> object:
    return disk.do(Read("file", 0, 1 << 20))


def test_flushed_writes_survive_a_power_cut() -> None:
    """Whatever the choices are, what was flushed stays."""
    disk = _disk({("write fate", 0, "file", 0, 1): LOST})
    disk.do(Write("file", 0, b"x" * SECTOR_SIZE))
    disk.do(Flush("file"))
    disk.cut_power()
    assert _content(disk) == b"x" * SECTOR_SIZE + bytes(3 * SECTOR_SIZE)


def test_unflushed_write_is_lost_when_drawn_so() -> None:
    """The old bytes come back; a write drawn as kept stays."""
    disk = _disk({("write fate", 0, "file", 0, 2): LOST})
    disk.do(Write("file", 0, b"x" * SECTOR_SIZE))
    disk.do(Write("file", 0, b"y" * SECTOR_SIZE))
    assert _content(disk) == b"y" * SECTOR_SIZE + bytes(3 * SECTOR_SIZE)
    disk.cut_power()
    assert _content(disk) == b"x" * SECTOR_SIZE + bytes(3 * SECTOR_SIZE)


def test_torn_write_keeps_some_sectors() -> None:
    """Sectors are lost one by one, in any order."""
    disk = _disk({("write fate", 0, "file", 0, 1): TORN, ("torn sectors", 0, "file", 0, 1): 0b010})
    disk.do(Write("file", 0, b"x" * 3 * SECTOR_SIZE))
    disk.cut_power()
    assert _content(disk) == bytes(SECTOR_SIZE) + b"x" * SECTOR_SIZE + bytes(2 * SECTOR_SIZE)


def test_lost_write_beyond_the_end_shortens_the_file() -> None:
    """A file grown by a lost write has its old size again."""
    disk = _disk({("write fate", 0, "file", 4 * SECTOR_SIZE, 1): LOST})
    disk.do(Write("file", 4 * SECTOR_SIZE, b"tail"))
    disk.cut_power()
    assert _content(disk) == bytes(4 * SECTOR_SIZE)


def test_process_crash_keeps_the_page_cache_and_promises_nothing() -> None:
    """After kill -9 reads see the write; a later power cut may still take it."""
    disk = _disk({("write fate", 0, "file", 0, 1): LOST})
    disk.do(Write("file", 0, b"x"))
    disk.crash_process()
    assert disk.do(Read("file", 0, 1)) == b"x"
    assert not disk.is_clean
    disk.cut_power()
    assert disk.do(Read("file", 0, 1)) == b"\0"


def test_unfinished_flush_promises_nothing() -> None:
    """A crash inside a flush leaves the writes at stake."""
    disk = _disk({("write fate", 0, "file", 0, 1): LOST})
    disk.do(Write("file", 0, b"x"))
    disk.begin(Flush("file"))
    disk.cut_power()
    assert disk.do(Read("file", 0, 1)) == b"\0"


def test_writes_at_stake_are_told_from_older_ones() -> None:
    """Work that began after a write is judged by its own writes."""
    disk = _disk()
    disk.do(Write("file", 0, b"old"))
    mark = disk.writes
    assert not disk.has_unflushed_since(mark)
    disk.do(Write("other", 0, b"new"))
    assert disk.has_unflushed_since(mark)
    disk.do(Flush("other"))
    assert not disk.has_unflushed_since(mark)


def test_directory_entry_of_a_new_file_needs_a_flush() -> None:
    """A file made by a write may vanish; one that was flushed may not."""
    disk = _disk({})
    disk.do(Write("new", 0, b"x"))
    disk.do(Write("kept", 0, b"x"))
    disk.do(Flush("kept"))
    survivor = disk.after_power_cut()
    assert survivor.do(ListFiles("")) == ("file", "kept")


@pytest.mark.parametrize("took_place", [0, 1])
def test_unfinished_rename_happens_or_does_not(took_place: int) -> None:
    """Rename is atomic: after a crash inside it there is one name or the other."""
    disk = _disk({("step took place", 0, "Rename", "file", 1): took_place} if took_place else {})
    disk.begin(Rename("file", "other"))
    disk.cut_power()
    assert disk.do(ListFiles("")) == (("other",) if took_place else ("file",))


def test_remove_and_folders() -> None:
    """Listing shows the files of one folder, sorted, without its name."""
    disk = _disk({})
    for name in ("log/2", "log/1", "log/deep/3"):
        disk.do(Allocate(name, 1))
    disk.do(Remove("log/2"))
    disk.do(Remove("log/never"))
    assert disk.do(ListFiles("log")) == ("1",)
    assert disk.do(ListFiles("")) == ("file",)
