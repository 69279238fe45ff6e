"""The only way to storage: a few primitive steps, and jobs made of them.

Storage code never does I/O itself. A *job* is a generator that yields steps and is sent their
results; that the disk is full is thrown into it instead, and every other failure ends it. A real disk runs
a job to its end in its own thread; a simulated one makes each step an event, so that a crash can fall
between and inside the steps of the same code.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol, TypeAlias, TypeVar

import attrs

from trio_pb.errors import DiskFullError

__all__ = [
    "Allocate",
    "Disk",
    "Flush",
    "Job",
    "ListFiles",
    "Read",
    "Remove",
    "Rename",
    "Step",
    "Write",
    "read_file",
    "run",
]

T = TypeVar("T")

READ_SIZE = 16 << 20  # Of a file that is read as a whole.


@attrs.frozen
class Read:
    """Result: up to `size` bytes from `offset`, shorter at the end of the file, b"" when there is no file.

    A sector that cannot be read comes back as zeros: to a reader that verifies checksums a failed
    read equals corruption (R-IOERR).
    """

    file: str  # Relative to the data directory, "/" between the parts.
    offset: int
    size: int
    is_from_device: bool = False  # Not from a cache, which may show what a failed flush never wrote (scrub, T-12).


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
            DiskFullError: no room for this write, allocation or rename. Nothing changed, except that a
                write may have left any part of its bytes. It is thrown into the job, which may know what
                to do without.
            StorageError: a write, flush, allocation, rename or removal failed; never retry (R-IOERR).
        """
        ...


def read_file(file: str, *, is_from_device: bool = False) -> Job[bytes]:
    """Read a whole file; b"" when there is none."""
    pieces: list[bytes] = []
    offset = 0
    while True:
        piece: bytes = yield Read(file, offset, READ_SIZE, is_from_device)
        pieces.append(piece)
        offset += len(piece)
        if len(piece) < READ_SIZE:
            return b"".join(pieces)


def run(disk: Disk, job: Job[T]) -> T:
    """Run `job` to its end on `disk` and return its value."""
    outcome: object = None
    while True:
        try:
            step = resume(job, outcome)
        except StopIteration as done:
            value: T = done.value
            return value
        outcome = attempt(disk, step)


def attempt(disk: Disk, step: Step) -> object:
    """Carry out `step`; returns its result, or the DiskFullError that its job is to hear of."""
    try:
        return disk.do(step)
    except DiskFullError as error:
        return error


def resume(job: Job[T], outcome: object) -> Step:
    """Tell `job` what its last step came to, None before the first one; returns the next step.

    Raises:
        StopIteration: the job has ended, with its value.
    """
    return job.throw(outcome) if isinstance(outcome, DiskFullError) else job.send(outcome)
