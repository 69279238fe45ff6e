"""Beyond the fault model: what is ruined, what is still owed, and that a wrong answer would be noticed."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from sim.beyond import RUINS, Beyond
from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.disk import SECTOR_SIZE, FakeDisk
from sim.experiment import Swarm, run_seed
from sim.oracles import invariants as inv
from sim.oracles.facts import Violation
from sim.oracles.honesty import heard_below
from sim.oracles.op_order import check_real_time
from sim.profiles import draw_beyond
from sim.run import RunReport, run_shape
from sim.shape import DiskFaultPlan, FaultPlan, Shape, WorkloadPlan
from sim.workload import History, Operation
from tests.sim.oracle_world import GENESIS, ONE, OTHER_ONE, TWO, VIEW, World, image, start_view, violates
from trio_pb.core import messages as m
from trio_pb.core.client_ports import Success
from trio_pb.core.config import Limits
from trio_pb.core.durable import Proof, RecordHeader, Scan, Superblock
from trio_pb.core.ports import Fatal, Start
from trio_pb.core.view_change import ViewChange
from trio_pb.storage.disk import Allocate, Flush, Read, Write

OLD, NEW = b"o" * SECTOR_SIZE, b"n" * SECTOR_SIZE
LATEST = Proof((1 << 32) + 1, VIEW, 1, ONE.checksum, GENESIS.id)


# --- What a disk does -------------------------------------------------------------------------------


def test_forgotten_flush_shows_at_a_power_cut() -> None:
    """It is reported, reads show the write, and no later flush saves it."""
    disk = FakeDisk(0, Choices(1, {}))
    disk.do(Allocate("file", SECTOR_SIZE))
    disk.do(Write("file", 0, OLD))
    disk.do(Flush("file"))
    disk.flushes_to_forget = 1
    disk.do(Write("file", 0, NEW))
    disk.do(Flush("file"))
    disk.do(Flush("file"))
    assert disk.flushes_to_forget == 0
    assert disk.do(Read("file", 0, SECTOR_SIZE)) == NEW
    disk.lose_unflushed()
    assert disk.do(Read("file", 0, SECTOR_SIZE)) == OLD


# --- What is drawn ----------------------------------------------------------------------------------


def test_everything_exists_somewhere_and_not_everywhere() -> None:
    """Each kind, among few seeds, and none in all of them."""
    plans = [draw_beyond(Choices(seed)).faults for seed in range(200)]
    assert all(plan.is_beyond for plan in plans)
    for name in ("ruins", "forgotten_flushes", "betrayals", "lost_files", "stale_reads", "short_writes"):
        assert {bool(getattr(plan.disks, name)) for plan in plans} == {True, False}
    assert {bool(plan.flips) for plan in plans} == {bool(plan.wipes) for plan in plans} == {True, False}
    assert any(plan.flips and plan.wipes for plan in plans)


def _ruined(kind: int) -> RunReport:
    """A run in which one thing is ruined everywhere, and everybody dies of it."""
    everywhere, midway = 3, 600_000
    recorded: dict[Key, int] = {("ruin", 0): 1, ("ruin", 0, "at"): midway}
    recorded |= {("ruin", 0, "kind"): kind, ("ruin", 0, "how many"): everywhere}
    recorded |= {("ruin", 0, "restart", number): 1 for number in range(3)}
    shape = Shape(
        limits=Limits(checkpoint_interval_ops=8, wal_ops=32),
        workload=WorkloadPlan(operations=60),
        faults=FaultPlan(duration=2_000_000, is_beyond=True, disks=DiskFaultPlan(ruins=1)),
    )
    return run_shape(Choices(1, recorded), shape)


@pytest.mark.parametrize("kind", range(6), ids=[name.replace(" ", "-") for name in RUINS[:6]])
def test_ruin_of_all_copies_everywhere(kind: int) -> None:
    """The cluster stops or waits, or goes on where it lost nothing that it needs; it never says what is wrong."""
    report = _ruined(kind)
    assert report.failure is None, report.failure
    assert report.counts[RUINS[kind]] == 3
    if RUINS[kind] in ("ruined superblock", "ruined identity"):
        assert report.counts["disk lost"] == 3
    if RUINS[kind] in ("ruined superblock", "ruined identity", "ruined proofs", "ruined log"):
        assert report.counts["answers withheld"]


def test_nothing_stops_by_itself_before_something_was_ruined() -> None:
    """That a run may go beyond the model excuses nobody who stops while it does not."""
    shape = Shape(faults=FaultPlan(is_beyond=True, disks=DiskFaultPlan(ruins=1)))
    cluster = SimCluster(Choices(1, {}), shape)
    replica = cluster.replicas[0]
    stop: Callable[[Fatal], None] = vars(replica)["_carry_out"][Fatal]
    with pytest.raises(Violation, match="stopped by itself"):
        stop(Fatal("contradiction", "because"))
    beyond = Beyond(cluster, lambda _: None, lambda: False, lambda _: replica)
    next(act for label, _, act in beyond.plan() if label == "ruin")(0)
    with pytest.raises(Exception) as stopped:  # noqa: PT011 -- what ends a turn of a replica is its own business
        stop(Fatal("contradiction", "because"))
    assert not isinstance(stopped.value, Violation)
    assert cluster.counts["fatal contradiction"] == 1


# --- Who remembers what -----------------------------------------------------------------------------


def _opens(world: World, superblock: Superblock, proof: Proof | None, *, has_log: bool = True) -> bool:
    """Replica 0 opens its disk; whether it misremembers."""
    scan = Scan(proof, has_log, (RecordHeader(1, ONE.checksum, ONE.parent, VIEW, 0),))
    world.watch.start(0, Start(superblock, scan, None), scan)
    return world.watch.testimony.is_lost


@pytest.mark.parametrize(
    ("superblock", "proof", "has_log", "is_lost"),
    [
        (image(0), LATEST, True, False),
        (image(0), None, True, False),  # An amnesiac knows that it is one,
        (image(0), LATEST, False, False),  # whatever it lost.
        (image(0), attrs.evolve(LATEST, sequence=1), True, True),
        (image(0, view=0, log_view=0), LATEST, True, True),
        (attrs.evolve(image(0), boot=0), LATEST, True, True),
    ],
)
def test_disk_that_went_back_in_time(superblock: Superblock, proof: Proof | None, has_log: bool, is_lost: bool) -> None:
    """7.3, 7.4: older than what was durable, and nothing that shows it."""
    w = World(inv.RepliesAreCommitted, is_beyond=True)
    w.make_durable(0, ONE)
    assert _opens(w, superblock, proof, has_log=has_log) == is_lost


def test_promises_are_judged_until_one_is_forgotten() -> None:
    """INV-2 is a violation, and with a disk that went back in time it is a loss, from the op on where logs part."""
    w = World(inv.RepliesAreCommitted, is_beyond=True)
    w.make_durable(0, ONE)
    w.commit(1, TWO)
    with violates("INV-2"):
        w.commit(2, OTHER_ONE)
    assert _opens(w, image(0), attrs.evolve(LATEST, sequence=1))
    assert w.watch.testimony.fork is None
    w.commit(0, OTHER_ONE)
    assert w.watch.testimony.fork == 1


def test_view_that_begins_without_what_committed() -> None:
    """What it leaves out is lost, though nothing took its place yet."""
    w = World(inv.RepliesAreCommitted, is_beyond=True)
    w.make_durable(0, ONE)
    w.commit(1, TWO)
    assert _opens(w, image(0), attrs.evolve(LATEST, sequence=1))
    w.send(1, start_view(ONE), view=VIEW + 1)
    assert w.watch.testimony.fork == 2


# --- What clients heard -----------------------------------------------------------------------------


def _history(*ops: int) -> History:
    """Reads one after the other, answered at these ops."""
    history = History()
    for token, op in enumerate(ops):
        operation = Operation(token, "C0", 2, b"", is_read=True)
        history.begin(operation, 10 * token)
        history.end(operation, Success(m.Reply(bytes(16), 0, 1, op, VIEW, 0, False, b""), 0, 1), 10 * token + 1)
    return history


def test_what_was_heard_below_a_loss_is_judged() -> None:
    """An answer from above it proves nothing and excuses nothing else."""
    with violates("INV-23"):
        check_real_time(_history(5, 9, 6).operations)
    check_real_time(heard_below(_history(5, 9, 6), 7).operations)
    with violates("INV-23"):
        check_real_time(heard_below(_history(5, 9, 4), 7).operations)


# --- Whole runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [31, 128])
def test_loss_that_nobody_could_prevent_is_declared(seed: int) -> None:
    """Disks forget what all who acknowledged it flushed: whoever still has it stops by name, in every run of these."""
    report = run_seed(seed, Swarm("beyond"))
    assert report.failure is None, report.failure
    assert report.counts["promise broken"]
    assert report.counts["fatal contradiction"]


def test_loss_would_pass_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped check is what stops it: without it those behind it would now and then, and else nobody."""

    def believe(_: ViewChange, __: m.StartView) -> None: ...

    monkeypatch.setattr(ViewChange, "_demand_committed", believe)
    reports = [run_seed(seed, Swarm("beyond")) for seed in (215, 226)]  # With it both stop with a contradiction.
    assert sum(report.counts["fatal contradiction"] for report in reports) < 2
