"""The inputs in the repository: real encodings, and what fuzzing found that reaches other branches."""

from __future__ import annotations

import sys
from hashlib import blake2b
from pathlib import Path
from types import FrameType
from typing import TypeAlias

from tests.fuzz.harness import Harness

__all__ = ["FILES_MAX", "SIZE_MAX", "files", "keep", "write_seeds"]

ROOT = Path(__file__).parent.parent.parent

# Of one harness. What reaches the most comes first, so the rest is no great loss.
FILES_MAX = 40
SIZE_MAX = 8 << 10  # Bytes of what was found.
OVERHEAD = 50  # Bytes that a file more is worth.

OURS = tuple(str(ROOT / room) for room in ("trio_pb", "sim"))

Branch: TypeAlias = "tuple[object, int, int]"  # Code, the line before, the line.


def files(folder: Path) -> list[Path]:
    """The inputs in a folder, in a fixed order."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def write_seeds(harness: Harness, folder: Path) -> int:
    """Write the real encodings anew; return how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("seed-*"):
        old.unlink()
    count = 0
    for count, data in enumerate(harness.seeds(), 1):
        assert len(data) <= harness.size_max, f"{harness.name}: seed {count} has {len(data)} bytes"
        (folder / f"seed-{count:02d}").write_bytes(data)
    return count


def keep(harness: Harness, folder: Path, found: Path) -> tuple[int, int]:
    """Choose anew from what is in `folder` and what was `found`; return how many are new, and how many there are.

    Greedy: the input that reaches the most branches of ours for its size, until none adds any. Seeds, and what was
    named by hand after the bug that it shows, always stay.
    """
    stays = [path for path in files(folder) if not _is_digest(path.name)]
    old = {path.name for path in files(folder)} - {path.name for path in stays}
    reached: set[Branch] = set()
    for path in stays:
        reached |= branches(harness, path.read_bytes())
    candidates: dict[bytes, set[Branch]] = {}
    for path in (*(folder / name for name in sorted(old)), *files(found)):
        data = path.read_bytes()
        if data not in candidates and len(data) <= harness.size_max:
            candidates[data] = branches(harness, data) - reached
    chosen = _choose(candidates, FILES_MAX - len(stays))
    names = {blake2b(data, digest_size=6).hexdigest(): data for data in chosen}
    for name in old - names.keys():
        (folder / name).unlink()
    for name, data in names.items():
        (folder / name).write_bytes(data)
    return len(names.keys() - old), len(stays) + len(names)


def _choose(candidates: dict[bytes, set[Branch]], count_max: int) -> list[bytes]:
    chosen: list[bytes] = []
    size = 0
    while len(chosen) < count_max:
        candidates = {data: new for data, new in candidates.items() if new and size + len(data) <= SIZE_MAX}
        best = max(((len(new) / (len(data) + OVERHEAD), data) for data, new in candidates.items()), default=None)
        if best is None:
            break
        reached = candidates.pop(best[1])
        candidates = {data: new - reached for data, new in candidates.items()}
        chosen.append(best[1])
        size += len(best[1])
    return chosen


def _is_digest(name: str) -> bool:
    return len(name) == 12 and set(name) <= set("0123456789abcdef")


def branches(harness: Harness, data: bytes) -> set[Branch]:
    """Check an input; return the steps from line to line that it took through our code."""
    found: set[Branch] = set()

    def enter(frame: FrameType, event: str, arg: object) -> object:
        del event, arg
        code = frame.f_code
        if not code.co_filename.startswith(OURS):
            return None
        last = 0

        def step(frame: FrameType, event: str, arg: object) -> object:
            nonlocal last
            del event, arg
            found.add((code, last, frame.f_lineno))
            last = frame.f_lineno
            return step

        return step

    before = sys.gettrace()
    sys.settrace(enter)  # type: ignore[arg-type] # Its own type for a tracer names itself.
    try:
        harness.check(data)
    finally:
        sys.settrace(before)
    return found
