"""The oracle on what is taken for a chunk, asked about packs that rot, and of readers that look and that do not."""

from __future__ import annotations

import pytest

from sim.choices import Choices
from sim.disk import SECTOR_SIZE, FakeDisk
from sim.mutants.catalogue import CATALOGUE
from sim.mutants.mutant import planted
from sim.oracles.content import demand_content
from sim.oracles.facts import DiskFacts
from tests.sim.oracle_world import image, violates
from trio_pb.core.manifest import chunk_digest
from trio_pb.storage.disk import run
from trio_pb.storage.packs import Packs, PackWriter

IMAGE = image(0)
CHUNK = b"laptop 7 " * 200


def _damaged(*, bit: bool) -> tuple[FakeDisk, DiskFacts]:
    """A disk with one chunk, of which something in the middle changed."""
    disk = FakeDisk(0, Choices(1))
    run(disk, PackWriter(Packs(IMAGE.incarnation)).write([(chunk_digest(CHUNK), CHUNK)]))
    (file,) = disk.files("checkpoints/")
    if bit:
        disk.flip(file, 2, 77)
    else:
        disk.rot(file, 2)
    return disk, DiskFacts(0, IMAGE, is_damaged=True)


@pytest.mark.parametrize("bit", [False, True])
@pytest.mark.parametrize("name", ["take-any-stored-chunk", "chunk-verified-nowhere"])
def test_a_chunk_that_rotted_is_not_taken(name: str, bit: bool) -> None:
    """Whoever compares digests takes nothing; whoever does not is noticed, before anybody loads what he takes."""
    disk, facts = _damaged(bit=bit)
    demand_content(disk, facts)
    with planted(CATALOGUE[name]), violates("chunk"):
        demand_content(disk, facts)


def test_a_sound_disk_is_not_read() -> None:
    """It costs where something decayed only."""
    disk, facts = _damaged(bit=True)
    facts.is_damaged = False
    with planted(CATALOGUE["chunk-verified-nowhere"]):
        demand_content(disk, facts)


def test_one_bit_changes() -> None:
    """The last sector of a file may be shorter: the place goes round what there is."""
    disk = FakeDisk(0, Choices(1))
    run(disk, PackWriter(Packs(IMAGE.incarnation)).write([(chunk_digest(CHUNK), CHUNK)]))
    (file,) = disk.files("checkpoints/")
    before = disk.contents(file, 0, disk.size_of(file))
    disk.flip(file, 1, 13)
    after = disk.contents(file, 0, disk.size_of(file))
    changed = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert changed == [SECTOR_SIZE + 1]
    assert before[changed[0]] ^ after[changed[0]] == 1 << 5
