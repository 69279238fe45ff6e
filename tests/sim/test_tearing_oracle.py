"""The oracle on what a power cut may tear, asked about disks in the middle of a write."""

from __future__ import annotations

import pytest

from sim.choices import Choices
from sim.disk import FakeDisk
from sim.oracles.facts import DiskFacts
from sim.oracles.tearing import demand_intact
from tests.sim.oracle_world import GENESIS, image, violates
from trio_pb.core.durable import Proof
from trio_pb.storage.disk import Flush, Job, run
from trio_pb.storage.proofs import SLOTS, ProofFile
from trio_pb.storage.superblock import SuperblockFile

OLD, NEW = image(0, view=1), image(0, view=2)


def _proof(sequence: int) -> Proof:
    return Proof(sequence, 1, 1, b"", GENESIS.id)


def _written(*jobs: Job[object]) -> FakeDisk:
    disk = FakeDisk(0, Choices(1))
    for job in jobs:
        run(disk, job)
    return disk


def _judging(disk: FakeDisk, job: Job[object], facts: DiskFacts, *, flushes: bool = True) -> None:
    """Do a job, and judge the disk at each flush; without `flushes` only the last takes place."""
    held: list[Flush] = []
    result: object = None
    while True:
        try:
            step = job.send(result)
        except StopIteration:
            break
        if isinstance(step, Flush):
            held.append(step)
            if not flushes:
                continue
            demand_intact(disk, step.file, facts)
        result = disk.do(step)
    demand_intact(disk, held[-1].file, facts)


def test_inv_28_all_copies_at_stake() -> None:
    """Two copies after the other two is fine; all four before one flush is not."""
    superblock = SuperblockFile(OLD.incarnation)
    disk = _written(superblock.write(OLD))
    facts = DiskFacts(0, OLD)
    _judging(disk, superblock.write(NEW), facts)
    with violates("INV-28"):
        _judging(disk, superblock.write(OLD), facts, flushes=False)


def test_inv_28_pair_of_before() -> None:
    """Two copies that are not at stake hold an image, but an older one than was promised."""
    superblock = SuperblockFile(OLD.incarnation)
    disk = _written(superblock.write(OLD))
    half = superblock.write(NEW)
    with violates("INV-28"):
        _judging(disk, half, DiskFacts(0, NEW))


@pytest.mark.parametrize("goes_on", [True, False])
def test_inv_28_newest_proof_at_stake(goes_on: bool) -> None:
    """The next slot may be torn; that of the newest proof may not."""
    file = ProofFile(OLD.incarnation)
    disk = _written(file.format(_proof(1)), *(file.write(_proof(2 + slot)) for slot in range(SLOTS)))
    facts = DiskFacts(0, OLD, proof=_proof(SLOTS + 1))
    if goes_on:
        _judging(disk, file.write(_proof(9)), facts)
        return
    vars(file)["_slot"] -= 1
    with violates("INV-28"):
        _judging(disk, file.write(_proof(9)), facts)


def test_inv_28_damaged_disks_are_not_judged() -> None:
    """Decay has its own rules."""
    superblock = SuperblockFile(OLD.incarnation)
    disk = _written(superblock.write(OLD))
    _judging(disk, superblock.write(NEW), DiskFacts(0, OLD, is_damaged=True), flushes=False)
