"""Faults of disks stay within the model, do what they say, and the oracles that judge repair can fail."""

from __future__ import annotations

import attrs
import pytest

from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.disk import ALWAYS, SECTOR_SIZE, FakeDisk, Place
from sim.disk_faults import DiskFaults
from sim.experiment import run_seed
from sim.oracles import invariants as inv
from sim.oracles import promises
from sim.oracles.equal_states import CheckpointsAgree
from sim.oracles.liveness import demand_convergence, has_converged
from sim.oracles.repaired import Repaired, wounds_of
from sim.scenario import Cluster
from sim.shape import DiskFaultPlan, FaultPlan, Shape
from tests.sim.oracle_world import GENESIS, ONE, TWO, VIEW, World, fresh_state, image, prepare_ok, violates
from trio_pb.core.config import Timeouts
from trio_pb.core.durable import Proof
from trio_pb.core.messages import CheckpointId, Status
from trio_pb.core.ports import SuperblockWrite, WalAppend
from trio_pb.errors import DiskFullError, StorageError
from trio_pb.storage import proofs, superblock
from trio_pb.storage.disk import Allocate, Flush, Read, Write
from trio_pb.storage.proofs import PROOFS_FILE
from trio_pb.storage.superblock import SUPERBLOCK_FILE

LOST, TORN = 1, 2
OLD, NEW, LATER = b"o" * SECTOR_SIZE, b"n" * SECTOR_SIZE, b"l" * SECTOR_SIZE
CHECKPOINT = CheckpointId(8, b"state of op 8")


def _disk(recorded: dict[Key, int] | None = None, sectors: int = 4) -> FakeDisk:
    disk = FakeDisk(0, Choices(1, recorded or {}))
    disk.do(Allocate("file", sectors * SECTOR_SIZE))
    disk.do(Write("file", 0, OLD))
    disk.do(Flush("file"))
    return disk


def _content(disk: FakeDisk, size: int = SECTOR_SIZE) -> object:
    return disk.do(Read("file", 0, size))


# --- What a disk does -------------------------------------------------------------------------------


def test_unreadable_sector_reads_as_zeros_until_it_is_written() -> None:
    """R-IOERR: a failed read equals damage; writing the sector heals it, for others it passes by itself."""
    disk = _disk()
    disk.make_unreadable("file", 0)
    assert _content(disk) == bytes(SECTOR_SIZE)
    assert _content(disk) == bytes(SECTOR_SIZE)
    disk.do(Write("file", 0, NEW))
    assert _content(disk) == NEW
    disk.make_unreadable("file", 0, reads=1)
    assert _content(disk) == bytes(SECTOR_SIZE)
    assert _content(disk) == NEW
    assert ALWAYS > 1


def test_rot_is_there_after_a_power_cut() -> None:
    """What decayed on the medium stays so."""
    disk = _disk()
    disk.rot("file", 0)
    disk.cut_power()
    assert _content(disk) not in (OLD, bytes(SECTOR_SIZE))


def test_write_goes_astray() -> None:
    """A misdirected write leaves its own place as it was and destroys another one; a lost one does only the first."""
    disk = _disk()
    disk.divert = lambda _: Place("file", 2 * SECTOR_SIZE)
    disk.do(Write("file", 0, NEW))
    assert _content(disk, 3 * SECTOR_SIZE) == OLD + bytes(SECTOR_SIZE) + NEW
    disk.divert = lambda _: Place(None, 0)
    disk.do(Write("file", 0, LATER))
    assert _content(disk) == OLD
    assert disk.is_clean


def test_short_write_leaves_the_rest_as_it_was() -> None:
    """It is reported and flushed; the next one of the same place is whole."""
    disk = _disk()
    disk.do(Write("file", SECTOR_SIZE, OLD))
    disk.divert = lambda _: Place(None, 0, SECTOR_SIZE)
    disk.do(Write("file", 0, NEW * 2))
    disk.divert = None
    disk.do(Flush("file"))
    assert _content(disk, 2 * SECTOR_SIZE) == NEW + OLD
    assert disk.is_clean
    disk.do(Write("file", 0, NEW * 2))
    assert _content(disk, 2 * SECTOR_SIZE) == NEW * 2


def test_stale_reads_show_what_was_there_before() -> None:
    """So many times, sector by sector; what is written is durable all the same, and the next write is seen at once."""
    disk = _disk()
    disk.outdate = lambda _: 2
    disk.do(Write("file", 0, NEW * 2))
    disk.do(Flush("file"))
    disk.outdate = None
    assert _content(disk, 2 * SECTOR_SIZE) == OLD + bytes(SECTOR_SIZE)
    assert _content(disk.remains()) == OLD
    disk.cut_power()
    assert _content(disk, 100) == OLD[:100]
    assert _content(disk, 2 * SECTOR_SIZE) == NEW + bytes(SECTOR_SIZE)
    disk.outdate = lambda _: ALWAYS
    disk.do(Write("file", 0, LATER))
    disk.outdate = None
    assert [_content(disk) for _ in range(3)] == [NEW] * 3
    disk.do(Write("file", 0, OLD))
    assert _content(disk) == OLD


def test_failed_flush_leaves_clean_pages_that_a_power_cut_takes() -> None:
    """T-12: reads show the write, a second flush does not save it, and the power cut takes it."""
    disk = _disk({("write fate", 0, "file", 0, 1): LOST})
    disk.do(Write("file", 0, NEW))
    disk.fail_after = 0
    with pytest.raises(StorageError, match="input/output"):
        disk.do(Flush("file"))
    disk.do(Flush("file"))
    assert _content(disk) == NEW
    assert not disk.is_clean
    assert _content(disk.after_power_cut()) == OLD
    disk.cut_power()
    assert _content(disk) == OLD


def test_writing_again_saves_what_a_failed_flush_dropped() -> None:
    """T-12: a new write of the same place is durable after its flush; its neighbour is still lost."""
    disk = _disk({("write fate", 0, "file", SECTOR_SIZE, 1): LOST})
    disk.do(Write("file", 0, NEW * 2))
    disk.fail_after = 0
    with pytest.raises(StorageError):
        disk.do(Flush("file"))
    disk.do(Write("file", 0, LATER))
    disk.do(Flush("file"))
    disk.cut_power()
    assert _content(disk, 2 * SECTOR_SIZE) == LATER + bytes(SECTOR_SIZE)


def test_full_disk_takes_what_needs_no_room() -> None:
    """7.5: places that exist are written; no file grows, and no new one is made."""
    disk = _disk()
    disk.is_full = True
    disk.do(Write("file", 0, NEW))
    assert _content(disk) == NEW
    for step in (Write("file", 4 * SECTOR_SIZE, NEW), Write("other", 0, NEW), Allocate("third", SECTOR_SIZE)):
        with pytest.raises(DiskFullError):
            disk.do(step)
    assert disk.size_of("file") == 4 * SECTOR_SIZE
    disk.is_full = False
    disk.do(Write("other", 0, NEW))


# --- The planner ------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(5))
def test_at_most_a_minority_decays(replicas: int, seed: int) -> None:
    """1, 7.4: (n - 1) // 2 at most; of proofs and superblock one copy each."""
    plan = FaultPlan(disks=DiskFaultPlan(decaying=5, rots=1, io_errors=1))
    cluster = SimCluster(Choices(seed), Shape(replicas=replicas, faults=plan))
    faults = DiskFaults(cluster, lambda _: None, lambda: False)
    assert len({decay.replica.number for decay in faults.decays}) == (replicas - 1) // 2 == len(faults.decays)
    assert len(faults.plan()) == (13 if faults.decays else 4)
    for decay in faults.decays:
        copies = [decay.covers(PROOFS_FILE, copy * proofs.COPY_DISTANCE) for copy in range(proofs.COPIES)]
        assert sum(copies) == 1
        blocks = [decay.covers(SUPERBLOCK_FILE, copy * superblock.COPY_SIZE) for copy in range(superblock.COPIES)]
        assert sum(blocks) == 1
        assert not decay.covers("identity", 0)


# --- Oracles ----------------------------------------------------------------------------------------


def test_inv_35_rot_that_nobody_looks_for() -> None:
    """A rotten record that no scrubbing reads is a wound; scrubbed, it is none."""
    for scrub_ticks, is_healed in ((2, True), (100_000, False)):
        c = Cluster(shape=Shape(timeouts=Timeouts(scrub_ticks=scrub_ticks)))
        b = c.names[1]
        c.orders(5)
        c.disk(b).rot_record(c.replica(b).head)
        repaired = Repaired(c.sim.facts, c.sim.replicas)
        c.sim.run_until(repaired.is_done, c.sim.scheduler.now + 20_000_000)
        assert repaired.is_done() == is_healed
        if is_healed:
            repaired.demand()
        else:
            with violates("INV-35"):
                repaired.demand()


def test_inv_35_fault_that_stays() -> None:
    """A replica that knows of a fault and cannot repair it is not healed."""
    c = Cluster(shape=Shape(timeouts=Timeouts(scrub_ticks=2)))
    b = c.names[1]
    c.orders(5)
    assert wounds_of(c.replica(b).replica) == []
    c.lose("PrepareCopy", dst=b)
    c.disk(b).rot_record(c.replica(b).head)
    c.replica(b).state.log.drop_bodies(c.replica(b).head)  # Else it writes from memory what the disk lost.
    c.run_until(lambda: c.count("record_lost") > 0, "scrubbing to find it")
    assert wounds_of(c.replica(b).replica)


def test_inv_20_wrong_state_that_nobody_notices() -> None:
    """Two certified checkpoints later a replica with a wrong state must have noticed."""
    c = Cluster()
    b = c.names[1]
    c.order("laptop").expect_reply()
    c.run_for(10)
    facts = c.sim.facts.disks[c.replica(b).replica.number]
    c.replica(b).replica.flip()
    assert has_converged(c.sim.replicas)
    facts.flipped_op = -10_000
    with violates("INV-20"):
        demand_convergence([], c.sim.replicas)


def _make_own(w: World, replica: int) -> None:
    """A checkpoint became a disk's own."""
    w.watch.image(replica, SuperblockWrite(1, attrs.evolve(image(replica), checkpoint=CHECKPOINT)))
    w.watch.image_done(replica, 1)


def test_inv_21_certificate_of_too_few() -> None:
    """One disk has the checkpoint: nobody may take it for certified; with a quorum of disks all may."""
    w = World(CheckpointsAgree)
    state = fresh_state()
    state.certified = CHECKPOINT
    _make_own(w, 0)
    with violates("INV-21"):
        w.watch.step(1, state)
    w = World(CheckpointsAgree)
    for replica in (0, 2):
        _make_own(w, replica)
    w.watch.step(1, state)


def test_inv_21_state_adopted_before_its_image() -> None:
    """A copied state is ours when the superblock says so."""
    w = World(CheckpointsAgree)
    with violates("INV-21"):
        w.watch.adopt(0, 8)
    w.facts.disks[0].superblock = attrs.evolve(image(0), checkpoint=CHECKPOINT)
    w.watch.adopt(0, 8)


def test_inv_29_watermark_of_the_next_proof_is_lower() -> None:
    """T-34: a proof promises less than the one before it in its lineage."""
    w = World(promises.WatermarkStays)
    w.make_durable(0, ONE, TWO)
    lower = Proof((1 << 32) + 9, VIEW, 1, ONE.checksum, GENESIS.id)
    with violates("INV-29"):
        w.watch.append(0, WalAppend(9, (), lower))


def test_inv_11_decayed_disk_counts_for_what_it_acknowledged() -> None:
    """A record that rotted after its acknowledgement was held; one that was never acknowledged was not."""
    w = World(promises.CommittedIsHeldByQuorum)
    w.make_durable(0, ONE)
    with violates("INV-11"):
        w.commit(0, ONE)
    w = World(promises.CommittedIsHeldByQuorum)
    w.make_durable(0, ONE)
    w.send(1, prepare_ok(ONE))
    w.facts.disks[1].is_damaged = True
    w.commit(0, ONE)


def test_inv_28_amnesia_needs_a_lost_file() -> None:
    """7.4: damage to one copy of the proofs is no reason to forget."""
    w = World(inv.CrashesLeaveNoFault)
    state = fresh_state()
    state.status = Status.AMNESIAC
    w.facts.disks[0].is_damaged = True
    with violates("INV-28"):
        w.watch.step(0, state)
    w.facts.disks[0].may_forget = True
    w.watch.step(0, state)


@pytest.mark.parametrize("seed", [2112, 2144, 8_001_327, 8_001_446, 8_001_704])
def test_seeds_that_found_something(seed: int) -> None:
    """A live checkpoint collected, one not scrubbed, proofs lost for good, a cache that hid a lost record."""
    report = run_seed(seed)
    assert report.failure is None, report.failure


def test_one_copy_of_the_superblock_goes_back() -> None:
    """It is valid and old; the other three are as they were, and opening finds the newest."""
    plan = DiskFaultPlan(decaying=1, old_copies=1)
    cluster = SimCluster(Choices(1, {}), Shape(faults=FaultPlan(disks=plan)))
    noted: list[str] = []
    faults = DiskFaults(cluster, noted.append, lambda: False)
    act = next(act for name, _, act in faults.plan() if name == "old copy")
    (decay,) = faults.decays
    disk = decay.disk
    place, size = decay.superblock_copy * superblock.COPY_SIZE, superblock.COPY_SIZE
    old = disk.contents(SUPERBLOCK_FILE, place, size)
    act(0)
    cluster.start()
    assert cluster.run_until(lambda: "old superblock copy" in noted, 60 * 1_000_000)
    assert disk.contents(SUPERBLOCK_FILE, place, size) == old
    others = [at * size for at in range(superblock.COPIES) if at * size != place]
    assert all(disk.contents(SUPERBLOCK_FILE, at, size) != old for at in others)
    facts = cluster.facts.disks[decay.replica.number]
    assert facts.is_damaged
    assert facts.may_be_lost
    assert facts.examine is not None
    found = facts.examine()
    assert found is not None
    assert found[0].view == facts.superblock.view
