"""The only way to storage: a few primitive steps, and jobs made of them.

Storage code never does I/O itself. A *job* is a generator that yields steps and is sent their
results. A real disk runs a job to its end in its own thread; a simulated one makes each step an
event, so that a crash can fall between and inside the steps of the same code.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol, TypeAlias, TypeVar

import attrs

__all__ = ["Allocate", "Disk", "Flush", "Job", "ListFiles", "Read", "Remove", "Rename", "Step", "Write", "run"]

T = TypeVar("T")


@attrs.frozen
class Read:
    """Result: up to `size` bytes from `offset`, shorter at the end of the file, b"" when there is no file.

    A sector that cannot be read comes back as zeros: to a reader that verifies checksums a failed
    read equals corruption (R-IOERR).
    """

    file: str  # Relative to the data directory, "/" between the parts.
    offset: int
    size: int


@attrs.frozen
class Write:
    """Result: None. Not durable before a Flush of the same file returned. Creates the file."""

    file: str
    offset: int
    data: bytes


@attrs.frozen
class Flush:
    """Result: None. Everything written to `file` before is durable, and so is its directory entry."""

    file: str


@attrs.frozen
class Allocate:
    """Result: None. `file` exists with `size` zero bytes, flushed, directory entry included.

    An existing file of that name is replaced.
    """

    file: str
    size: int


@attrs.frozen
class ListFiles:
    """Result: tuple[str, ...], sorted names of the files in `folder` ("" is the data directory)."""

    folder: str


@attrs.frozen
class Rename:
    """Result: None. Atomic and durable."""

    file: str
    to: str


@attrs.frozen
class Remove:
    """Result: None. Durable; no error when there is no such file."""

    file: str


Step: TypeAlias = Read | Write | Flush | Allocate | ListFiles | Rename | Remove

# What a step results in depends on its class, which a generator's type cannot say: hence Any.
Job: TypeAlias = Generator[Step, Any, T]


class Disk(Protocol):
    """Something that carries out steps, one at a time."""

    def do(self, step: Step) -> object:
        """Carry out `step` and return its result.

        Raises:
            StorageError: a write, flush, allocation, rename or removal failed; never retry (R-IOERR).
        """
        ...


def run(disk: Disk, job: Job[T]) -> T:
    """Run `job` to its end on `disk` and return its value."""
    result: object = None
    while True:
        try:
            step = job.send(result)
        except StopIteration as done:
            value: T = done.value
            return value
        result = disk.do(step)
