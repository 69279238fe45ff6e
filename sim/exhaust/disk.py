"""The disk of a replica in a small world: what is written, and what is on its way there (R-STORE).

The bytes are another house's business (`storage`, which the simulator tears and rots). Here a disk is what opening
it would find, and a crash decides about everything that was not completed.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import product

import attrs

from sim.oracles.facts import watermark_of
from trio_pb.core.durable import Proof, RecordHeader, Scan, Superblock
from trio_pb.core.ports import Start, SuperblockWrite, WalAppend
from trio_pb.core.prepare import Prepare, PrepareId

__all__ = ["Disk", "Kept"]


@attrs.frozen
class Kept:
    """What a crash leaves of the writes that were on their way."""

    appends: int  # The oldest so many are complete.
    records: tuple[bool, ...]  # Of each append after those: whether its records are there. Its proof is not.
    image: bool  # The superblock image.


@attrs.frozen
class Disk:
    """A disk and its queue; it is never changed, every write makes another."""

    superblock: Superblock
    proof: Proof | None  # None: all copies of all proofs are gone, which no crash does.
    records: frozenset[Prepare]
    appends: tuple[WalAppend, ...] = ()  # On their way, oldest first.
    image: SuperblockWrite | None = None  # On its way.

    @property
    def watermark(self) -> int:
        """The op up to which this disk binds its replica to what it acknowledged (R-PROOF, 6.5)."""
        return watermark_of(self.proof, self.superblock)

    def holds(self, top: PrepareId, by_checksum: dict[bytes, Prepare]) -> bool:
        """Whether the entry `top` and all that it follows are durable."""
        durable = {prepare.checksum for prepare in self.records}
        checksum = top.checksum
        for _ in range(top.op):
            if checksum not in durable:
                return False
            checksum = by_checksum[checksum].parent
        return True

    def read(self, wanted: PrepareId) -> Prepare | None:
        """The record of an entry."""
        return next((prepare for prepare in self.records if prepare.id == wanted), None)

    # --- Writes -----------------------------------------------------------------------------------

    def append_done(self) -> Disk:
        """The oldest append is complete."""
        done = self.appends[0]
        records = self.records.union(done.prepares)
        return attrs.evolve(self, appends=self.appends[1:], records=records, proof=done.proof or self.proof)

    def image_done(self) -> Disk:
        """The image is complete."""
        assert self.image is not None
        return attrs.evolve(self, superblock=self.image.image, image=None)

    # --- Crashes ----------------------------------------------------------------------------------

    def crashes(self) -> Generator[Kept]:
        """Everything that a loss of power may leave."""
        images = (False, True) if self.image is not None else (False,)
        for complete in range(len(self.appends) + 1):
            rest = self.appends[complete:]
            # Whatever is not there at all cannot be there or not.
            choices = [(False, True) if append.prepares else (False,) for append in rest]
            for records, image in product(product(*choices), images):
                yield Kept(complete, records, image)

    def crashed(self, kept: Kept) -> Disk:
        """What is found when it is opened again."""
        disk = self
        for _ in range(kept.appends):
            disk = disk.append_done()
        written = [append for append, is_kept in zip(disk.appends, kept.records, strict=True) if is_kept]
        records = disk.records.union(*[append.prepares for append in written])
        superblock = self.image.image if kept.image and self.image is not None else self.superblock
        return Disk(superblock, disk.proof, records)

    def start(self) -> Start:
        """What a boot is told."""
        found = sorted(self.records, key=lambda prepare: (prepare.op, prepare.checksum))
        headers = tuple([RecordHeader(p.op, p.checksum, p.parent, p.view, p.commit) for p in found])
        return Start(self.superblock, Scan(self.proof, True, headers))
