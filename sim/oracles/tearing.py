"""A shadow oracle of disks: whatever a power cut makes of what is being written, what was durable is found (2.3, T-35).

Asked at each flush of the superblock and of the proofs: these are written over older ones. That nothing which was
durable is at stake is seen in one look; that a cut tears just that takes thousands of runs.
"""

from __future__ import annotations

from collections import Counter

from sim.disk import FakeDisk
from sim.oracles.facts import DiskFacts, violate
from trio_pb.storage import proofs, superblock
from trio_pb.storage.page import Page, open_page
from trio_pb.storage.proofs import PROOFS_FILE
from trio_pb.storage.superblock import SUPERBLOCK_FILE

__all__ = ["demand_intact"]


def demand_intact(disk: FakeDisk, file: str, facts: DiskFacts) -> None:
    """Judge a disk at a flush of `file`, which may fail half-way.

    Raises:
        Violation: INV-28.
    """
    if facts.is_damaged or facts.forgets:
        return
    if file == SUPERBLOCK_FILE:
        _demand_superblock(disk, facts)
    elif file == PROOFS_FILE and facts.proof is not None:
        _demand_proof(disk, facts, facts.proof.sequence)


def _demand_superblock(disk: FakeDisk, facts: DiskFacts) -> None:
    """Two copies of one image are not at stake, and it is no older than the one that was promised."""
    found: Counter[Page] = Counter()
    for place in range(superblock.COPIES):
        page = _page(
            disk, SUPERBLOCK_FILE, place * superblock.COPY_SIZE, superblock.COPY_SIZE, superblock.MAGIC, place, facts
        )
        if page is not None:
            found[page] += 1
    twice = [page for page, copies in found.items() if copies >= 2]
    newest = max(twice, key=lambda page: page.sequence, default=None)
    image = None if newest is None else superblock.decode(newest.body)
    if image is None:
        violate("INV-28", f"R{facts.replica}: a power cut now may leave no two equal copies of its superblock")
    promised = facts.superblock
    if (image.boot, image.view, image.log_view) < (promised.boot, promised.view, promised.log_view):
        violate("INV-28", f"R{facts.replica}: a power cut now may bring its superblock back to view {image.view}")


def _demand_proof(disk: FakeDisk, facts: DiskFacts, durable: int) -> None:
    """A copy of the newest durable proof, or of a newer one, is not at stake."""
    for copy in range(proofs.COPIES):
        for slot in range(proofs.SLOTS):
            offset, place = copy * proofs.COPY_DISTANCE + slot * proofs.COPY_SIZE, slot * proofs.COPIES + copy
            page = _page(disk, PROOFS_FILE, offset, proofs.COPY_SIZE, proofs.MAGIC, place, facts)
            if page is not None and page.sequence >= durable:
                return
    violate("INV-28", f"R{facts.replica}: a power cut now may take its durable proof {durable}, and leave no newer one")


def _page(disk: FakeDisk, file: str, offset: int, size: int, magic: bytes, place: int, facts: DiskFacts) -> Page | None:
    if disk.is_at_stake(file, offset, size):
        return None
    owner = facts.superblock.incarnation
    return open_page(disk.contents(file, offset, size), magic=magic, owner=owner, place=place)
