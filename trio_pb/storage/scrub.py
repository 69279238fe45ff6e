"""Scrubbing: reading again, little by little, what nobody asked for, to find rot while it can be healed (PROTOCOL 7.5).

A round looks at superblock, proofs and the lists of what must be there, then at every record of the log,
then at every chunk, in slices that take no longer than a group commit.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from trio_pb.core.manifest import Chunk
from trio_pb.core.ports import Scrubbed
from trio_pb.storage.checkpoints import Checkpoints
from trio_pb.storage.disk import Job, Read, Step
from trio_pb.storage.journal import Journal
from trio_pb.storage.packs import Packs
from trio_pb.storage.proofs import ProofFile
from trio_pb.storage.superblock import SuperblockFile

__all__ = ["SCRUB_BYTES", "Scrubber"]

SCRUB_BYTES = 256 << 10  # Of one slice; a larger record is read as a whole.

# A round yields steps, and what a slice found at the end of each slice. As with a job, hence Any.
Round: TypeAlias = Generator[Step | Scrubbed, Any, None]


class Scrubber:
    """Goes round and round over all that a data directory holds."""

    def __init__(
        self, superblock: SuperblockFile, proofs: ProofFile, journal: Journal, packs: Packs, checkpoints: Checkpoints
    ) -> None:
        self._superblock = superblock
        self._proofs = proofs
        self._journal = journal
        self._packs = packs
        self._checkpoints = checkpoints
        self._round = self._go_round()

    def slice(self) -> Job[Scrubbed]:
        """Read the next slice; returns what it found."""
        result: object = None
        while True:
            try:
                step = self._round.send(result)
            except StopIteration:
                self._round = self._go_round()
                return Scrubbed(is_round_done=True)
            if isinstance(step, Scrubbed):
                return step
            if isinstance(step, Read):
                step = Read(step.file, step.offset, step.size, is_from_device=True)
            result = yield step

    def _go_round(self) -> Round:
        has_superblock = yield from self._superblock.is_whole()
        has_proof = yield from self._proofs.is_whole()
        missing = yield from self._missing()
        vanished = yield from self._journal.find_vanished()
        # A new proof begins a new log, too, where all of it was lost.
        has_proof &= not self._journal.is_lost
        yield Scrubbed(superblock=not has_superblock, proofs=not has_proof, chunks=missing, records=vanished)
        for segment in self._journal.segments:
            for records in _slices(self._journal.locations(segment)):
                damaged = yield from self._journal.verify(records)
                yield Scrubbed(records=damaged)
        for pack in self._packs.packs:
            for chunks in _slices(self._packs.chunks_in(pack)):
                manifests = yield from self._checkpoints.kept_manifests()
                rotten = yield from self._packs.verify(chunks)
                named: dict[bytes, Chunk] = {}
                if rotten:
                    for checkpoint, manifest in manifests.items():
                        named[checkpoint.digest] = Chunk(0, checkpoint.digest, 0)
                        named.update((chunk.digest, chunk) for chunk in (manifest.chunks if manifest else ()))
                yield Scrubbed(chunks=tuple(named[digest] for digest in rotten if digest in named))

    def _missing(self) -> Job[tuple[Chunk, ...]]:
        """Return what kept checkpoints need and the bag does not have: rot that opening or somebody's read found."""
        missing: dict[bytes, Chunk] = {}
        manifests = yield from self._checkpoints.kept_manifests()
        for checkpoint, manifest in manifests.items():
            if manifest is None:
                missing[checkpoint.digest] = Chunk(0, checkpoint.digest, 0)
            else:
                missing.update((chunk.digest, chunk) for chunk in manifest.chunks if chunk.digest not in self._packs)
        return tuple(missing.values())


class _Placed(Protocol):
    """Where something lies in a file."""

    @property
    def offset(self) -> int: ...

    @property
    def end(self) -> int: ...


K = TypeVar("K")
P = TypeVar("P", bound=_Placed)


def _slices(items: Sequence[tuple[K, P]]) -> Iterator[list[tuple[K, P]]]:
    """Cut neighbours into runs that span at most SCRUB_BYTES each, or one item."""
    run: list[tuple[K, P]] = []
    for item in items:
        if run and item[1].end - run[0][1].offset > SCRUB_BYTES:
            yield run
            run = []
        run.append(item)
    if run:
        yield run
