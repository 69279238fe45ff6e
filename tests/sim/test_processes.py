"""What befalls processes: each kind happens as it is named, and ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.faults import FaultInjector
from sim.oracles.facts import Facts, Violation
from sim.oracles.invariants import EligibleVoters
from sim.processes import AIMS
from sim.replica import SimReplica
from sim.scheduler import SECOND
from sim.shape import FaultPlan, Shape
from tests.sim.oracle_world import ONE, World, image, prepare_ok
from trio_pb.core.messages import Status

MS = 1000


class _World:
    """Three replicas that work, and an injector with one fault to make."""

    def __init__(self, label: str, plan: FaultPlan, **decisions: int) -> None:
        recorded: dict[Key, int] = {(label, 0): 1}
        recorded.update({(label, 0, name): value for name, value in decisions.items()})
        self.cluster = SimCluster(Choices(1, recorded), Shape(faults=plan))
        self.injector = FaultInjector(self.cluster)
        self.injector.schedule()
        self.cluster.start()

    @property
    def counts(self) -> dict[str, int]:
        """What happened, by name."""
        return self.cluster.counts

    @property
    def victim(self) -> SimReplica:
        """The one that faults befall by default."""
        return self.cluster.replicas[0]

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.cluster.scheduler.run_until(self.cluster.scheduler.now + int(seconds * SECOND))

    def heal(self) -> None:
        """End all faults, and give everybody time."""
        self.injector.heal()
        self.run(10)


def test_restart_loop_ends() -> None:
    """So many crashes in a row, and then it stays up."""
    world = _World("restart loop", FaultPlan(duration=2 * SECOND, restart_loops=1), times=5)
    world.run(20)
    assert world.counts["restart loop"] == 1
    assert world.counts["crashes"] >= 5
    before = world.counts["crashes"]
    assert world.victim.core is not None
    world.run(5)
    assert world.counts["crashes"] == before


@pytest.mark.parametrize("aim", [1, 2])
def test_a_restart_loop_may_strike_one_file(aim: int) -> None:
    """Every death falls into a flush of that file, with what it covers at stake; after the last one all is well."""
    world = _World("restart loop", FaultPlan(duration=2 * SECOND, restart_loops=1), times=5, aim=aim)
    struck: list[str] = []
    world.victim.on_crash = _noting(world.victim.on_crash, struck)
    world.run(20)
    aimed = [file for file in struck if file]
    assert len(aimed) >= 3
    assert set(aimed) == {AIMS[aim]}
    assert world.victim.core is not None
    world.heal()


def _noting(then: Callable[[SimReplica, bool], None], struck: list[str]) -> Callable[[SimReplica, bool], None]:
    """Note whose flush a crash fell into, where it did."""

    def note(replica: SimReplica, power: bool) -> None:
        struck.append(replica.struck_at)
        then(replica, power)

    return note


@pytest.mark.parametrize("is_long", [0, 1])
def test_pause_may_last_longer_than_everything(is_long: int) -> None:
    """A long pause costs the primary its view; whoever paused goes on where the others are."""
    plan = FaultPlan(duration=2 * SECOND, pauses=1, pause_mean=500 * MS)
    world = _World("pause", plan, who=3, **{"very long": is_long})
    assert world.cluster.run_until(lambda: any(it.is_paused for it in world.cluster.replicas), 3 * SECOND)
    (paused,) = (it for it in world.cluster.replicas if it.is_paused)
    began = world.cluster.scheduler.now
    assert world.cluster.run_until(lambda: not paused.is_paused, began + 100 * SECOND)
    lasted = world.cluster.scheduler.now - began
    assert (lasted > 8 * plan.pause_mean) == bool(is_long)
    assert world.counts["long pause" if is_long else "pause"] == 1


def test_a_slow_node_gets_its_speed_back() -> None:
    """Its turns are late for a while."""
    world = _World("slow node", FaultPlan(duration=SECOND, slow_nodes=1), turns=2)
    assert world.cluster.run_until(lambda: world.victim.turn_delay == 80 * MS, 2 * SECOND)
    world.heal()
    assert world.victim.turn_delay == 0


def test_a_wiped_disk_never_votes_and_the_others_go_on() -> None:
    """Formatted anew under its old id it is told so, and stops; two of three have a primary."""
    world = _World("wipe", FaultPlan(duration=SECOND, wipes=1))
    world.run(3)
    world.heal()
    assert world.counts["wiped disk"] == world.counts["fatal identity_refused"] == 1
    assert world.victim.is_stopped
    assert [it.is_primary for it in world.cluster.replicas].count(True) == 1
    world.run(5)
    assert not world.victim.is_up


def test_no_disk_is_wiped_before_all_have_met() -> None:
    """A cluster that loses a member before it is born never begins (7.6)."""
    world = _World("wipe", FaultPlan(duration=1, wipes=1))
    world.cluster.network.block([1], [2])
    world.run(5)
    assert world.counts["wiped disk"] < 1
    assert {it.core.state.status for it in world.cluster.replicas if it.core is not None} >= {Status.UNBORN}
    world.cluster.network.heal()
    world.run(5)
    assert world.counts["wiped disk"] == 1


def test_a_vote_from_a_wiped_disk_is_a_violation() -> None:
    """INV-26, whatever the replica believes of itself."""
    world = World(EligibleVoters)
    world.make_durable(1, ONE)
    world.send(1, prepare_ok(ONE))
    world.facts.wipe(1, image(1))
    assert isinstance(world.facts, Facts)
    with pytest.raises(Violation, match="INV-26"):
        world.send(1, prepare_ok(ONE))
