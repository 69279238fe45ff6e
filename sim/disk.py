"""A disk that loses what was not flushed: the fake behind the storage code.

Each step of a job is an event of its own in the world, so a crash falls between steps, or inside one
(after `begin`, before `finish`). A write is visible to reads at once and durable only after a flush of
its file. What a power cut makes of an unflushed write is decided per write: kept, lost, or torn, which
keeps some of its 512-byte sectors and loses others. A crash of the process alone loses nothing, and
makes nothing durable either.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from sim.choices import Choices, Key
from trio_pb.storage import disk as steps
from trio_pb.storage.disk import Step

__all__ = ["SECTOR_SIZE", "FakeDisk"]

SECTOR_SIZE = 512
_KEPT, _LOST, _TORN = 0, 1, 2


@attrs.define
class _Write:
    """A write that no flush has covered yet, with what stood there before."""

    number: int  # Counts the writes of the disk; names the draw of its fate.
    offset: int
    data: bytes
    before: bytearray  # Shorter than `data` where the file was shorter.


@attrs.define
class _File:
    """One file as reads see it, and the way back to what is durable."""

    data: bytearray
    entry_durable: bool  # Whether the directory would still name it after a power cut.
    unflushed: list[_Write] = attrs.field(factory=list[_Write])


class FakeDisk:
    """Files in memory; satisfies `trio_pb.storage.disk.Disk`, and can also be driven half a step at a time."""

    def __init__(self, owner: int, choices: Choices) -> None:
        self.owner = owner
        self.written_bytes = 0
        self._choices = choices
        self._files: dict[str, _File] = {}
        self._writes = 0
        self._power_cuts = 0
        self._pending: Step | None = None  # Begun, not finished.
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
        if type(step) is steps.Write:
            self._write(step)

    def finish(self) -> object:
        """Complete the step that was begun and return its result."""
        step = self._pending
        assert step is not None, "no step was begun"
        self._pending = None
        return self._finishers[type(step)](step)

    @property
    def is_clean(self) -> bool:
        """Whether a power cut now would lose nothing."""
        return not any(file.unflushed or not file.entry_durable for file in self._files.values())

    @property
    def writes(self) -> int:
        """Writes so far; names the latest one."""
        return self._writes

    def has_unflushed_since(self, write: int) -> bool:
        """Whether anything written after write number `write` is still at stake."""
        return any(file.unflushed and file.unflushed[-1].number > write for file in self._files.values())

    # --- Crashes ----------------------------------------------------------------------------

    def crash_process(self) -> None:
        """The program dies, the machine goes on: a step in progress completes or not; no write is lost."""
        self._settle_pending()

    def cut_power(self) -> None:
        """The machine dies: what no flush covered is kept, lost or torn, write by write."""
        self._settle_pending()
        self._power_cuts += 1
        choose = self._choices
        for name in sorted(self._files):
            file = self._files[name]
            if not file.entry_durable and choose.flag(("entry lost", self.owner, self._power_cuts, name), 0.5):
                del self._files[name]
                continue
            file.entry_durable = True
            if file.unflushed:
                self._decide_fates(file)

    def after_power_cut(self) -> FakeDisk:
        """Return a copy as the most harmful power cut would leave it now: nothing unflushed survives."""
        survivor = FakeDisk(self.owner, self._choices)
        for name, file in self._files.items():
            if file.entry_durable:
                data = bytearray(file.data)
                _roll_back(data, file.unflushed)
                survivor._files[name] = _File(data, entry_durable=True)
        return survivor

    def _settle_pending(self) -> None:
        """Decide whether a step in progress still took place; by default it did not."""
        step, self._pending = self._pending, None
        if step is None or type(step) in (steps.Write, steps.Read, steps.ListFiles, steps.Flush):
            return  # The write's sectors have fates of their own; an unfinished flush promises nothing.
        if self._choices.flag(("step took place", self.owner, self._power_cuts, self._writes), 0.5):
            self._finishers[type(step)](step)

    def _decide_fates(self, file: _File) -> None:
        writes = file.unflushed
        file.unflushed = []
        fates = [self._fate(write) for write in writes]
        if not any(fates):
            return
        # Back to what is durable, then forward with the sectors that survived. Sectors of one write are
        # lost apart from those of another: the device writes back in any order.
        _roll_back(file.data, writes)
        for write, fate in zip(writes, fates, strict=True):
            if fate == _KEPT:
                _put(file.data, write.offset, write.data)
            elif fate == _TORN:
                self._tear(file, write)

    def _fate(self, write: _Write) -> int:
        return self._choices.number(("write fate", self.owner, write.number), _KEPT, _TORN, _KEPT)

    def _tear(self, file: _File, write: _Write) -> None:
        key: Key = ("torn sectors", self.owner, write.number)
        kept = self._choices.number(key, 0, (1 << 32) - 1, 0)
        end = write.offset + len(write.data)
        sector = write.offset - write.offset % SECTOR_SIZE
        index = 0
        while sector < end:
            low, high = max(sector, write.offset), min(sector + SECTOR_SIZE, end)
            if kept >> (index % 32) & 1:
                _put(file.data, low, write.data[low - write.offset : high - write.offset])
            sector += SECTOR_SIZE
            index += 1

    # --- What each step does ------------------------------------------------------------------

    def _write(self, step: steps.Write) -> None:
        file = self._files.get(step.file)
        if file is None:
            file = self._files[step.file] = _File(bytearray(), entry_durable=False)
        held, offset, new = file.data, step.offset, step.data
        if offset > len(held):
            # A gap after the old end reads as zeros; it is part of what this write brings about.
            offset, new = len(held), bytes(offset - len(held)) + new
        end = offset + len(new)
        self._writes += 1
        self.written_bytes += len(step.data)
        file.unflushed.append(_Write(self._writes, offset, new, held[offset:end]))
        held[offset:end] = new

    def _finish_write(self, step: Step) -> None:
        assert type(step) is steps.Write

    def _finish_read(self, step: Step) -> bytes:
        assert type(step) is steps.Read
        file = self._files.get(step.file)
        if file is None:
            return b""
        with memoryview(file.data) as view:  # Without it a slice would be copied twice.
            return bytes(view[step.offset : step.offset + step.size])

    def _finish_flush(self, step: Step) -> None:
        assert type(step) is steps.Flush
        file = self._files.get(step.file)
        if file is not None:
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
        file = self._files.pop(step.file)
        file.entry_durable = True
        self._files[step.to] = file

    def _finish_remove(self, step: Step) -> None:
        assert type(step) is steps.Remove
        self._files.pop(step.file, None)


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
