"""A disk that loses what was not flushed: the fake behind the storage code.

Each step of a job is an event of its own in the world, so a crash falls between steps, or inside one
(after `begin`, before `finish`). A write is visible to reads at once and durable only after a flush of
its file. What a power cut makes of an unflushed write is decided per write: kept, lost, or torn, which
keeps some of its 512-byte sectors and loses others. A crash of the process alone loses nothing, and
makes nothing durable either.

It can also fail and decay, when told to (`sim.disk_faults` decides when): sectors rot or cannot be read,
writes go astray or nowhere, a flush fails and the pages that it was to save count as clean from then on
(so that reads show what the medium never got), files vanish, and there is no room for more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import attrs

from sim.choices import Choices, Key
from trio_pb.errors import DiskFullError, StorageError
from trio_pb.storage import disk as steps
from trio_pb.storage.disk import Step

__all__ = ["ALWAYS", "SECTOR_SIZE", "FakeDisk", "Place", "file_of"]

SECTOR_SIZE = 512
ALWAYS = 1 << 60  # Reads that a sector fails: until it is written again.
_KEPT, _LOST, _TORN = 0, 1, 2


@attrs.define
class _Write:
    """A write that no flush has covered yet, with what stood there before."""

    number: int  # Counts the writes of the disk.
    offset: int
    data: bytes
    before: bytearray  # Shorter than `data` where the file was shorter.

    @property
    def end(self) -> int:
        """Offset behind it."""
        return self.offset + len(self.data)


@attrs.define
class _File:
    """One file as reads see it, and the way back to what is durable."""

    data: bytearray
    entry_durable: bool  # Whether the directory would still name it after a power cut.
    unflushed: list[_Write] = attrs.field(factory=list[_Write])
    dropped: list[_Write] = attrs.field(factory=list[_Write])  # A flush of them failed; none will cover them again.
    unreadable: dict[int, int] = attrs.field(factory=dict[int, int])  # Sector -> reads of it that fail yet.
    # Sector -> what stood there before its last write, and how many reads yet return that.
    stale: dict[int, tuple[bytes, int]] = attrs.field(factory=dict[int, tuple[bytes, int]])

    @property
    def at_stake(self) -> list[_Write]:
        """What a power cut may take, oldest first."""
        return self.dropped + self.unflushed if self.dropped else self.unflushed


class Place(NamedTuple):
    """Where a write ends up instead of its own place; None as a file: nowhere."""

    file: str | None
    offset: int
    kept: int = 0  # So many of its first bytes come where they belong, all the same.


class FakeDisk:
    """Files in memory; satisfies `trio_pb.storage.disk.Disk`, and can also be driven half a step at a time."""

    def __init__(self, owner: int, choices: Choices) -> None:
        self.owner = owner
        self.written_bytes = 0
        self._choices = choices
        self._files: dict[str, _File] = {}
        self._writes = 0
        self._drawn: dict[Key, int] = {}  # How often something of that content was decided.
        self._pending: Step | None = None  # Begun, not finished.
        self._error: StorageError | None = None  # What the pending step ends with.
        self._is_view = False  # Of another disk's files.
        self.is_full = False  # No file grows, and no new one finds room.
        self.full_folder = ""  # No file grows in there, and no new one finds room.
        self.refusals = 0  # Steps so far that found no room.
        # Asked about every write while it is set: where it goes instead, None for its own place.
        self.divert: Callable[[steps.Write], Place | None] | None = None
        # Asked likewise: how many reads of its sectors return what stood there before.
        self.outdate: Callable[[steps.Write], int] | None = None
        self.fail_after: int | None = None  # So many writes and flushes from now, the next one fails.
        self.flushes_to_forget = 0  # So many of the next flushes are reported and not made.
        self._finishers: dict[type[Step], Callable[[Step], object]] = {
            steps.Write: self._finish_write,
            steps.Read: self._finish_read,
            steps.Flush: self._finish_flush,
            steps.Allocate: self._finish_allocate,
            steps.ListFiles: self._finish_list,
            steps.Rename: self._finish_rename,
            steps.Remove: self._finish_remove,
        }

    # --- Steps ------------------------------------------------------------------------------

    def do(self, step: Step) -> object:
        """Carry out a whole step (the `Disk` interface)."""
        self.begin(step)
        return self.finish()

    def begin(self, step: Step) -> None:
        """Hand a step to the device. A write may reach the medium from now on; nothing else has happened."""
        assert self._pending is None, "one step at a time"
        self._pending = step
        kind = type(step)
        if kind is steps.Read:
            return
        assert not self._is_view or kind is steps.ListFiles, "a view is for reading"
        if self.fail_after is not None and (kind is steps.Write or kind is steps.Flush):
            self._count_down(step)
        if self._error is None and (self.is_full or self.full_folder) and self._needs_room(step):
            self._error = DiskFullError(f"disk {self.owner} is full")
            self.refusals += 1
        if type(step) is steps.Write:
            self._write(step) if self._error is None else self._write_part(step)

    def finish(self) -> object:
        """Complete the step that was begun and return its result.

        Raises:
            DiskFullError: there is no room.
            StorageError: the device failed.
        """
        step = self._pending
        assert step is not None, "no step was begun"
        self._pending = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._finishers[type(step)](step)

    @property
    def is_clean(self) -> bool:
        """Whether a power cut now would lose nothing."""
        return not any(file.unflushed or file.dropped or not file.entry_durable for file in self._files.values())

    @property
    def writes(self) -> int:
        """Writes so far; names the latest one."""
        return self._writes

    def has_unflushed_since(self, write: int) -> bool:
        """Whether anything written after write number `write` is still at stake."""
        return any(file.unflushed and file.unflushed[-1].number > write for file in self._files.values())

    def writes_at_stake(self) -> Iterator[bytes]:
        """The data of every write that a power cut now may take."""
        for file in self._files.values():
            for write in file.at_stake:
                yield write.data

    def is_at_stake(self, file: str, offset: int, size: int) -> bool:
        """Whether a power cut now may change anything in a place."""
        end = offset + size
        return any(
            write.offset < end and offset < write.end and bytes(write.before) != write.data
            for write in self._files[file].at_stake
        )

    def has(self, data: bytes) -> bool:
        """Whether these bytes stand anywhere, in one piece."""
        return any(data in file.data for file in self._files.values())

    # --- Crashes ----------------------------------------------------------------------------

    def crash_process(self) -> None:
        """The program dies, the machine goes on: a step in progress completes or not; no write is lost."""
        self._settle_pending()

    def cut_power(self) -> None:
        """The machine dies: what no flush covered is kept, lost or torn, write by write."""
        self._settle_pending()
        for name in sorted(self._files):
            file = self._files[name]
            if not file.entry_durable and self._choices.flag(self._key("entry lost", name), 0.5):
                del self._files[name]
                continue
            file.entry_durable = True
            if file.at_stake:
                self._decide_fates(name, file)

    def lose_unflushed(self) -> None:
        """The most harmful that a power cut can do: nothing survives of what no flush covered."""
        for file in self._files.values():
            _roll_back(file.data, file.at_stake)
            file.unflushed, file.dropped = [], []

    def after_power_cut(self) -> FakeDisk:
        """Return a copy as the most harmful power cut would leave it now: nothing unflushed survives."""
        survivor = FakeDisk(self.owner, self._choices)
        survivor._files = self._surviving(bytearray)
        return survivor

    def remains(self) -> FakeDisk:
        """The same for a quick look: it cannot be written, shares what is not at stake, and is soon out of date."""
        survivor = FakeDisk(self.owner, self._choices)
        survivor._files = self._surviving(lambda data: data)
        survivor._is_view = True
        return survivor

    def _surviving(self, take: Callable[[bytearray], bytearray]) -> dict[str, _File]:
        """What is durable; `take` is asked for the data of which nothing is at stake."""
        files: dict[str, _File] = {}
        for name, file in self._files.items():
            if file.entry_durable:
                if file.at_stake:
                    data = bytearray(file.data)
                    _roll_back(data, file.at_stake)
                else:
                    data = take(file.data)
                files[name] = _File(data, True, unreadable=dict(file.unreadable), stale=dict(file.stale))
        return files

    def _settle_pending(self) -> None:
        """Decide whether a step in progress still took place; by default it did not."""
        step, self._pending = self._pending, None
        error, self._error = self._error, None
        if error is not None or step is None or type(step) in (steps.Write, steps.Read, steps.ListFiles, steps.Flush):
            return  # The write's sectors have fates of their own; an unfinished flush promises nothing.
        if type(step) is steps.Rename and step.file not in self._files:
            return  # It was lost meanwhile.
        if self._choices.flag(self._key("step took place", type(step).__name__, file_of(step)), 0.5):
            self._finishers[type(step)](step)

    def _key(self, label: str, *content: str | int) -> Key:
        """Name a decision by what it is about and how often the same was decided: no count of all there is."""
        key: Key = (label, self.owner, *content)
        nth = self._drawn[key] = self._drawn.get(key, 0) + 1
        return (*key, nth)

    def _decide_fates(self, name: str, file: _File) -> None:
        writes = file.at_stake
        file.unflushed, file.dropped = [], []
        keys = [self._key("write fate", name, write.offset) for write in writes]
        fates = [self._choices.number(key, _KEPT, _TORN, _KEPT) for key in keys]
        if not any(fates):
            return
        # Back to what is durable, then forward with the sectors that survived. Sectors of one write are
        # lost apart from those of another: the device writes back in any order.
        _roll_back(file.data, writes)
        for write, fate, key in zip(writes, fates, keys, strict=True):
            if fate == _KEPT:
                _put(file.data, write.offset, write.data)
            elif fate == _TORN:
                self._tear(file, write, ("torn sectors", *key[1:]))

    def _tear(self, file: _File, write: _Write, key: Key) -> None:
        kept = self._choices.number(key, 0, (1 << 32) - 1, 0)
        end = write.end
        sector = write.offset - write.offset % SECTOR_SIZE
        index = 0
        while sector < end:
            low, high = max(sector, write.offset), min(sector + SECTOR_SIZE, end)
            if kept >> (index % 32) & 1:
                _put(file.data, low, write.data[low - write.offset : high - write.offset])
            sector += SECTOR_SIZE
            index += 1

    # --- Failing and decaying -------------------------------------------------------------------

    def files(self, folder: str) -> list[str]:
        """Every file in `folder` ("log/"), or the file of that name, if it is there."""
        return sorted(
            name for name in self._files if name == folder or (folder[-1:] == "/" and name.startswith(folder))
        )

    def sectors_in_use(self, file: str) -> list[int]:
        """The sectors that hold anything, and of which nothing waits for a flush."""
        held = self._files[file]
        covered = {sector for write in held.at_stake for sector in _sectors(write.offset, write.end)}
        data, blank = bytes(held.data), bytes(SECTOR_SIZE)
        starts = range(0, len(data), SECTOR_SIZE)
        used = (start // SECTOR_SIZE for start in starts if not blank.startswith(data[start : start + SECTOR_SIZE]))
        return [sector for sector in used if sector not in covered]

    def size_of(self, file: str) -> int:
        """Bytes of a file; 0 when there is none."""
        held = self._files.get(file)
        return 0 if held is None else len(held.data)

    def rot(self, file: str, sector: int) -> None:
        """A sector changes by itself."""
        data = self._files[file].data
        start = sector * SECTOR_SIZE
        data[start : start + SECTOR_SIZE] = bytes(255 - byte for byte in data[start : start + SECTOR_SIZE])

    def flip(self, file: str, sector: int, bit: int) -> None:
        """One bit of a sector changes by itself; `bit` counts from the first of its bytes, round what the file has."""
        data, start = self._files[file].data, sector * SECTOR_SIZE
        data[start + bit // 8 % min(SECTOR_SIZE, len(data) - start)] ^= 1 << bit % 8

    def make_unreadable(self, file: str, sector: int, reads: int = ALWAYS) -> None:
        """The next `reads` reads of a sector fail, until it is written again."""
        self._files[file].unreadable[sector] = reads

    def contents(self, file: str, offset: int, size: int) -> bytes:
        """What stands in a place; nothing where there is no such file."""
        held = self._files.get(file)
        return b"" if held is None else bytes(held.data[offset : offset + size])

    def overwrite(self, file: str, offset: int, data: bytes) -> None:
        """A place changes by itself to `data`."""
        self._files[file].data[offset : offset + len(data)] = data

    def lose_file(self, file: str) -> None:
        """A file is gone, with all that it held."""
        self._files.pop(file, None)

    def _count_down(self, step: Step) -> None:
        assert self.fail_after is not None
        if self.fail_after > 0:
            self.fail_after -= 1
            return
        self.fail_after = None
        self._error = StorageError(f"disk {self.owner}: input/output error")
        file = self._files.get(step.file) if isinstance(step, steps.Flush) else None
        if file is not None:
            file.dropped += file.unflushed
            file.unflushed = []

    def _needs_room(self, step: Step) -> bool:
        if not self.is_full and not file_of(step).startswith(self.full_folder):
            return False
        if type(step) is steps.Write:
            return step.offset + len(step.data) > self.size_of(step.file)
        return type(step) is steps.Allocate

    def _write_part(self, step: steps.Write) -> None:
        """A write that failed may have left some of its bytes."""
        room = self.size_of(step.file) - step.offset
        kept = self._choices.number(self._key("failed write keeps", step.file, step.offset), 0, 8, 0) * SECTOR_SIZE
        if 0 < kept <= min(room, len(step.data)):
            self._write(steps.Write(step.file, step.offset, step.data[:kept]))

    def _write_astray(self, place: Place, data: bytes) -> None:
        """The medium takes a write for another place: at once, and what stands there is lost."""
        self._writes += 1
        held = self._files.get(place.file) if place.file is not None else None
        if held is not None:
            end = min(place.offset + len(data), len(held.data))
            held.data[place.offset : end] = data[: max(end - place.offset, 0)]

    # --- What each step does ------------------------------------------------------------------

    def _write(self, step: steps.Write) -> None:
        place = self.divert(step) if self.divert is not None else None
        if place is None:
            self._write_here(step)
            return
        self._write_astray(place, step.data)
        if place.kept:
            self._write_here(steps.Write(step.file, step.offset, step.data[: place.kept]))

    def _write_here(self, step: steps.Write) -> None:
        file = self._files.get(step.file)
        if file is None:
            file = self._files[step.file] = _File(bytearray(), entry_durable=False)
        held, offset, new = file.data, step.offset, step.data
        if offset > len(held):
            # A gap after the old end reads as zeros; it is part of what this write brings about.
            offset, new = len(held), bytes(offset - len(held)) + new
        end = offset + len(new)
        self._writes += 1
        if self.outdate is not None or file.stale:
            self._note_stale(file, step)
        self.written_bytes += len(step.data)
        file.unflushed.append(_Write(self._writes, offset, new, held[offset:end]))
        held[offset:end] = new
        if file.unreadable:
            for sector in _sectors(offset, end):
                file.unreadable.pop(sector, None)

    def _note_stale(self, file: _File, step: steps.Write) -> None:
        """Sectors are about to be written: what is read of them is new again, or old for a few times."""
        reads = self.outdate(step) if self.outdate is not None else 0
        for sector in _sectors(step.offset, step.offset + len(step.data)):
            file.stale.pop(sector, None)
            if reads:
                old = bytes(file.data[sector * SECTOR_SIZE : (sector + 1) * SECTOR_SIZE])
                file.stale[sector] = (old.ljust(SECTOR_SIZE, b"\0"), reads)

    def _finish_write(self, step: Step) -> None:
        assert type(step) is steps.Write

    def _finish_read(self, step: Step) -> bytes:
        assert type(step) is steps.Read
        file = self._files.get(step.file)
        if file is None:
            return b""
        if step.is_from_device and file.dropped and not file.unflushed:
            _roll_back(file.data, file.dropped)  # The cache lets go of what a failed flush left in it.
            file.dropped = []
        with memoryview(file.data) as view:  # Without it a slice would be copied twice.
            data = bytes(view[step.offset : step.offset + step.size])
        if file.stale:
            data = _with_stale(file, step.offset, data)
        return _without_unreadable(file, step.offset, data) if file.unreadable else data

    def _finish_flush(self, step: Step) -> None:
        assert type(step) is steps.Flush
        file = self._files.get(step.file)
        if file is not None and self.flushes_to_forget:
            self.flushes_to_forget -= 1
            file.dropped += file.unflushed  # Its pages count as clean from now on, as after a flush that failed.
            file.unflushed = []
        elif file is not None:
            if file.dropped:
                file.dropped = list(_not_covered(file.dropped, file.unflushed))
            file.unflushed.clear()
            file.entry_durable = True

    def _finish_allocate(self, step: Step) -> None:
        assert type(step) is steps.Allocate
        self._files[step.file] = _File(bytearray(step.size), entry_durable=True)

    def _finish_list(self, step: Step) -> tuple[str, ...]:
        assert type(step) is steps.ListFiles
        prefix = f"{step.folder}/" if step.folder else ""
        names = (name[len(prefix) :] for name in self._files if name.startswith(prefix))
        return tuple(sorted(name for name in names if "/" not in name))

    def _finish_rename(self, step: Step) -> None:
        assert type(step) is steps.Rename
        file = self._files.pop(step.file, None)
        if file is None:
            raise StorageError(f"disk {self.owner}: {step.file}: no such file")
        file.entry_durable = True
        self._files[step.to] = file

    def _finish_remove(self, step: Step) -> None:
        assert type(step) is steps.Remove
        self._files.pop(step.file, None)


def file_of(step: Step) -> str:
    """What a step is about."""
    return step.folder if isinstance(step, steps.ListFiles) else step.file


def _put(data: bytearray, offset: int, new: bytes) -> None:
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(new)] = new


def _roll_back(data: bytearray, writes: list[_Write]) -> None:
    for write in reversed(writes):
        end = write.offset + len(write.before)
        data[write.offset : end] = write.before
        if len(write.before) < len(write.data):
            del data[end:]  # The write made the file longer.


def _sectors(low: int, high: int) -> range:
    """The sectors of which low..high - 1 has a part."""
    return range(low // SECTOR_SIZE, -(-high // SECTOR_SIZE))


def _with_stale(file: _File, offset: int, data: bytes) -> bytes:
    """What a read returns where sectors show what they were."""
    read = bytearray(data)
    for sector in _sectors(offset, offset + len(data)):
        old, left = file.stale.get(sector, (b"", 0))
        if left:
            start = sector * SECTOR_SIZE
            low, high = max(start, offset), min(start + SECTOR_SIZE, offset + len(data))
            read[low - offset : high - offset] = old[low - start : high - start]
            if left == 1:
                del file.stale[sector]
            elif left < ALWAYS:
                file.stale[sector] = (old, left - 1)
    return bytes(read)


def _without_unreadable(file: _File, offset: int, data: bytes) -> bytes:
    """What a read returns where sectors fail: zeros in their places (R-IOERR)."""
    read = bytearray(data)
    for sector in _sectors(offset, offset + len(data)):
        left = file.unreadable.get(sector, 0)
        if left:
            low = max(sector * SECTOR_SIZE, offset) - offset
            high = min((sector + 1) * SECTOR_SIZE - offset, len(data))
            read[low:high] = bytes(high - low)
            if left == 1:
                del file.unreadable[sector]
            elif left < ALWAYS:
                file.unreadable[sector] = left - 1
    return bytes(read)


def _not_covered(dropped: list[_Write], flushed: list[_Write]) -> Iterator[_Write]:
    """The parts of writes whose flush failed that no write of `flushed`, which is durable now, lies upon."""
    for write in dropped:
        if any(cover.end > write.offset + len(write.before) for cover in flushed):
            # The file is at least that long for good.
            write.before.extend(bytes(len(write.data) - len(write.before)))
        pieces = [write]
        for cover in flushed:
            pieces = [rest for piece in pieces for rest in _without(piece, cover.offset, cover.end)]
        yield from pieces


def _without(write: _Write, low: int, high: int) -> Iterator[_Write]:
    """What is left of a write outside low..high - 1."""
    if high <= write.offset or write.end <= low:
        yield write
        return
    if write.offset < low:
        size = low - write.offset
        yield _Write(write.number, write.offset, write.data[:size], write.before[:size])
    if high < write.end:
        size = high - write.offset
        yield _Write(write.number, high, write.data[size:], write.before[size:])
