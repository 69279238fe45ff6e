"""Wall clocks go wrong as they are told to, and the judge of times knows a wild one from a right one."""

from __future__ import annotations

import pytest

from sim.choices import Choices, Key
from sim.clocks import HOUR_NS, Clocks
from sim.cluster import SimCluster
from sim.oracles.facts import Facts, Violation
from sim.oracles.sane_time import SaneTime
from sim.scheduler import SECOND
from sim.shape import FaultPlan, Shape
from sim.wall_clock import EPOCH_NS, WallClock
from tests.sim.oracle_world import GENESIS, World, prepare_at

SECOND_NS = 1_000_000_000


def test_clock_runs_jumps_drifts_and_freezes() -> None:
    """It shows what it was set to and how much it ran since then."""
    clock = WallClock(5)
    assert clock.read(SECOND) == EPOCH_NS + SECOND_NS + 5
    clock.jump(-HOUR_NS)
    assert clock.read(SECOND) == EPOCH_NS + SECOND_NS + 5 - HOUR_NS
    clock.run(SECOND, 1500)
    assert clock.read(3 * SECOND) - clock.read(SECOND) == 3 * SECOND_NS
    clock.run(3 * SECOND, 0)
    frozen = clock.read(3 * SECOND)
    assert clock.read(9 * SECOND) == frozen
    clock.run(9 * SECOND)
    assert clock.read(10 * SECOND) == frozen + SECOND_NS


def test_no_clock_shows_a_time_before_1970() -> None:
    """A machine whose battery is empty begins there."""
    clock = WallClock()
    clock.jump(-2 * EPOCH_NS)
    assert clock.read(0) == 0


class _World:
    """Three replicas at rest, and one clock fault to make."""

    def __init__(self, plan: FaultPlan, **decisions: int) -> None:
        label = "clock jump" if plan.clock_jumps else "clock drift" if plan.clock_drifts else "clock freeze"
        recorded: dict[Key, int] = {("clocks", "whose"): 1}
        recorded.update({(label, 0, name): value for name, value in decisions.items()})
        self.cluster = SimCluster(Choices(1, recorded), Shape(faults=plan))
        self.noted: list[str] = []
        self.clocks = Clocks(self.cluster, self.noted.append, lambda: False, lambda _key: self.cluster.replicas[0])
        self.label = label
        self.act = next(act for name, _, act in self.clocks.plan() if name == label)

    @property
    def wrong(self) -> list[int]:
        """How wrong each clock is, in nanoseconds."""
        now = self.cluster.scheduler.now
        return [it.clock.read(now) - EPOCH_NS - now * 1000 for it in self.cluster.replicas]


@pytest.mark.parametrize("back", [0, 1])
def test_one_clock_jumps(back: int) -> None:
    """By an hour, or whatever is drawn; the others stay right."""
    world = _World(FaultPlan(clock_jumps=1), back=back)
    world.act(0)
    assert world.wrong == [0, -HOUR_NS if back else HOUR_NS, 0]
    assert world.noted == ["clock jump"]


def test_one_clock_drifts_until_the_heal() -> None:
    """Too fast by one per cent; then it stays as wrong as it is."""
    world = _World(FaultPlan(clock_drifts=1))
    world.act(0)
    world.cluster.scheduler.run_until(100 * SECOND)
    assert world.wrong == [0, SECOND_NS, 0]
    world.clocks.heal()
    world.cluster.scheduler.run_until(200 * SECOND)
    assert world.wrong == [0, SECOND_NS, 0]


def test_one_clock_freezes_for_a_while() -> None:
    """It stays behind by as long as it stood still."""
    world = _World(FaultPlan(clock_freezes=1))
    world.act(0)
    world.cluster.scheduler.run_until(60 * SECOND)
    late = world.wrong[1]
    assert late < 0
    world.cluster.scheduler.run_until(90 * SECOND)
    assert world.wrong == [0, late, 0]


def _judge(facts: Facts) -> SaneTime:
    oracle = SaneTime(facts)
    oracle.clock_of = lambda _replica: EPOCH_NS
    return oracle


def _commit(world: World, ahead_ns: int) -> None:
    late = prepare_at(1, GENESIS, timestamp=EPOCH_NS + ahead_ns)
    world.facts.register(late)
    world.commit(0, late)


def _oracle(world: World) -> SaneTime:
    (oracle,) = world.watch.oracles
    assert isinstance(oracle, SaneTime)
    return oracle


def test_an_order_of_tomorrow_is_a_violation() -> None:
    """Where one clock is wild and the others are not."""
    world = World(_judge)
    _oracle(world).distrust(0)
    with pytest.raises(Violation, match="sane time"):
        _commit(world, 24 * HOUR_NS)


@pytest.mark.parametrize(("wild", "ahead_ns"), [((0, 1), 24 * HOUR_NS), ((), 24 * HOUR_NS), ((0,), 5 * SECOND_NS)])
def test_what_the_clamp_allows_is_none(wild: tuple[int, ...], ahead_ns: int) -> None:
    """Seconds are; and where two clocks of three are wild they may be the median."""
    world = World(_judge)
    for replica in wild:
        _oracle(world).distrust(replica)
    _commit(world, ahead_ns)
