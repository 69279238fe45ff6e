"""A disk in memory with a write-back cache, whose power can be cut at any step.

Reads see the cache. A flush makes the earlier writes of its file durable. A power cut keeps any subset
of the unflushed 512-byte sectors, and may destroy those in flight. A failed flush leaves the cache as
it is, calls it clean, and never brings it to the device: what operating systems do (T-12). When the disk
is full, a write that would make a file longer leaves half of its bytes and fails.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

from trio_pb.errors import DiskFullError, StorageError
from trio_pb.storage.disk import Allocate, Flush, Job, ListFiles, Read, Remove, Rename, Step, Write, run

SECTOR = 512

T = TypeVar("T")

# Decides what the power cut makes of one unflushed sector, given its number, counted over all unflushed
# writes in their order: written (True), as before (False), or neither (None).
Survival = Callable[[int], "bool | None"]


def survivals() -> list[Survival]:
    """The sharpest outcomes of a power cut, and three arbitrary ones, one of which destroys sectors."""

    def at_random(seed: int, *outcomes: bool | None) -> Survival:
        random = Random(seed)
        return lambda _: random.choice(outcomes)

    return [
        lambda _: False,
        lambda _: True,
        lambda index: index % 2 == 0,
        lambda _: None,
        at_random(1, True, False),
        at_random(2, True, False),
        at_random(3, True, False, None),
    ]


class PowerCutError(Exception):
    """The power went before or in the middle of a step."""


class CrashDisk:
    """Satisfies `Disk`."""

    def __init__(self) -> None:
        self.device: dict[str, bytearray] = {}
        self.cache: dict[str, bytearray] = {}
        self.unflushed: list[Write] = []
        self.steps: list[Step] = []  # Those carried out.
        self.cut_at: int | None = None  # The power goes at this step, counted from 0 over `steps`.
        self.fail_flush_at: int | None = None  # This step, a flush, fails.
        self.growths = 0  # Steps that needed room, so far.
        self.full_from: int | None = None  # There is room for this many such steps.
        self._unlike: set[str] = set()  # Files whose cache shows what the device never got.

    def copy(self) -> CrashDisk:
        """Return the same disk with the same cache, to try another fate on; also a restart of the process."""
        other = CrashDisk()
        other.device = {name: bytearray(data) for name, data in self.device.items()}
        other.cache = {name: bytearray(data) for name, data in self.cache.items()}
        other.unflushed = list(self.unflushed)
        other._unlike = set(self._unlike)
        return other

    def after_power_cut(self, survives: Survival) -> CrashDisk:
        """Return the disk as it comes back."""
        other = CrashDisk()
        other.device = {name: bytearray(data) for name, data in self.device.items()}
        number = 0
        for write in self.unflushed:
            for start in range(0, len(write.data), SECTOR):
                outcome = survives(number)
                if outcome is not False:
                    sector = write.data[start : start + SECTOR]
                    if outcome is None:
                        sector = b"\xa5" * len(sector)
                    put(other.device.setdefault(write.file, bytearray()), write.offset + start, sector)
                number += 1
        other.cache = {name: bytearray(data) for name, data in other.device.items()}
        return other

    def files(self, folder: str) -> list[str]:
        """Paths of the files in `folder`."""
        return sorted(name for name in self.cache if name.startswith(f"{folder}/"))

    def lose_files(self, folder: str, *, but: str = "") -> None:
        """All files in `folder` vanish, except one."""
        for name in self.files(folder):
            if name != but:
                self._forget(name)

    def do(self, step: Step) -> object:
        """Carry out `step`, unless the power goes."""
        number = len(self.steps)
        if number == self.cut_at:
            if isinstance(step, Write):
                self._write(step)  # Any part of it may have reached the device.
            raise PowerCutError
        self.steps.append(step)
        if self._needs_room(step):
            if self.full_from is not None and self.growths >= self.full_from:
                if isinstance(step, Write):
                    self._write(Write(step.file, step.offset, step.data[: len(step.data) // 2]))
                raise DiskFullError(f"{step}: the disk is full")
            self.growths += 1
        if isinstance(step, Flush) and number == self.fail_flush_at:
            self.unflushed = [write for write in self.unflushed if write.file != step.file]
            self._unlike.add(step.file)
            raise StorageError(f"{step.file}: flush failed")
        return self._carry_out(step)

    def run_until_cut(self, job: Job[T], cut_at: int) -> T | None:
        """Run `job`; the power goes at its step `cut_at`, or not at all if it has fewer steps (then its value)."""
        self.steps.clear()
        self.cut_at = cut_at
        try:
            return run(self, job)
        except PowerCutError:
            return None
        finally:
            self.cut_at = None

    def _carry_out(self, step: Step) -> object:
        match step:
            case Write():
                self._write(step)
            case Flush(file):
                for write in self.unflushed:
                    if write.file == file:
                        put(self.device.setdefault(file, bytearray()), write.offset, write.data)
                self.unflushed = [write for write in self.unflushed if write.file != file]
            case Read(file, offset, size, is_from_device):
                files = self.device if is_from_device and file in self._unlike else self.cache
                return bytes(files.get(file, b"")[offset : offset + size])
            case Allocate(file, size):
                self._forget(file)
                self.device[file] = bytearray(size)
                self.cache[file] = bytearray(size)
            case ListFiles(folder):
                prefix = f"{folder}/" if folder else ""
                names = [name.removeprefix(prefix) for name in self.cache if name.startswith(prefix)]
                return tuple(sorted(name for name in names if "/" not in name))
            case Rename(file, to):
                assert all(write.file != file for write in self.unflushed), f"{file}: renamed with unflushed writes"
                self._forget(to)
                self.device[to] = self.device.pop(file)
                self.cache[to] = self.cache.pop(file)
            case Remove(file):
                self._forget(file)
        return None

    def _needs_room(self, step: Step) -> bool:
        if isinstance(step, Write):
            return step.offset + len(step.data) > len(self.cache.get(step.file, b""))
        return isinstance(step, Allocate | Rename)

    def _write(self, step: Write) -> None:
        put(self.cache.setdefault(step.file, bytearray()), step.offset, step.data)
        self.unflushed.append(step)

    def _forget(self, file: str) -> None:
        self.device.pop(file, None)
        self.cache.pop(file, None)
        self.unflushed = [write for write in self.unflushed if write.file != file]


def put(data: bytearray, offset: int, new: bytes) -> None:
    """Write `new` at `offset`, over a hole of zeros if need be."""
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(new)] = new
