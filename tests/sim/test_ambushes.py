"""Each ambush brings about what it is named for, and none happens unless the shape asks for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import attrs
import pytest

from sim.ambushes import AMBUSHES, Ambushes
from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.profiles import draw_ambushed
from sim.replica import SimReplica
from sim.run import run_shape
from sim.scheduler import SECOND, TICK_US
from sim.shape import Shape, WorkloadPlan
from sim.workload import Workload
from trio_pb.core.config import Limits, Timeouts
from trio_pb.core.messages import Read
from trio_pb.core.ports import FromClient
from trio_pb.core.state import State

LONELY, DEAF, QUICK, LAST_WORDS, UNHEARD_WORDS, LATE_COPIES = range(len(AMBUSHES))
END, KILL_THE_OLD, REBOOT_THE_OLD, KILL_THE_NEW = 0, 2, 3, 4  # What follows the loneliness.
# Orders follow one another at once, so that there is always something on its way.
BUSY = Shape(
    clients=2,
    limits=Limits(batch_requests_max=1),
    timeouts=Timeouts(heartbeat_ticks=1, suspect_ticks=12, suspect_jitter_ticks=6, check_quorum_ticks=10),
    workload=WorkloadPlan(operations=5000, in_flight=4, think_mean=2000, reads=0.0, scans=0.0),
)
PATIENCE = 2 * SECOND


def _state(replica: SimReplica) -> State:
    assert replica.core is not None, f"{replica.name} does not run"
    return replica.core.state


class Trap:
    """A busy cluster in which one ambush is sprung and everything else goes well."""

    def __init__(
        self, kind: int, *, seed: int = 1, is_over: bool = False, has_primary: bool = True, **decisions: int
    ) -> None:
        """`decisions`: what the ambush draws, by its label; what is not named takes its default."""
        recorded: dict[Key, int] = {("ambush", 0, "kind"): kind}
        recorded.update({("ambush", 0, label): value for label, value in decisions.items()})
        self.cluster = SimCluster(Choices(seed, recorded), BUSY)
        self.replicas = self.cluster.replicas
        self.cluster.start()
        workloads = [
            Workload(client, index, BUSY.workload, self.cluster.choices, self.cluster.scheduler)
            for index, client in enumerate(self.cluster.clients)
        ]
        for workload in workloads:
            workload.start()
        self.run_until(lambda: self.cluster.history.ended >= 20)
        self.run_until(lambda: all(_state(replica).log.head > 0 for replica in self.replicas))
        self.old = self._leading()[0]
        self.view = self.old.view
        self.others = [replica for replica in self.replicas if replica is not self.old]
        if not has_primary:
            self.old.crash(power=True)
        self.noted: list[str] = []
        self.sprung = self.cluster.scheduler.now
        Ambushes(self.cluster, self.noted.append, lambda: is_over).spring(0)

    def _leading(self) -> list[SimReplica]:
        return [replica for replica in self.replicas if replica.is_primary]

    @property
    def new(self) -> SimReplica | None:
        """Who leads a later view."""
        return next((replica for replica in self._leading() if replica.view > self.view), None)

    @property
    def blocked(self) -> set[tuple[int, int]]:
        """Links that are cut, clients' included."""
        return set(self.cluster.network.blocked)

    def links(self, *, from_old: bool, to_old: bool) -> set[tuple[int, int]]:
        """The links between the old primary and all other replicas."""
        made = {(self.old.number, other.number) for other in self.others if from_old}
        return made | {(other.number, self.old.number) for other in self.others if to_old}

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Let one event after the other happen, and stop in the very moment in which `condition` holds."""
        scheduler = self.cluster.scheduler
        limit = scheduler.now + PATIENCE
        while not condition():
            assert scheduler.now < limit, "waited in vain"
            scheduler.step()

    def run_for(self, ticks: int) -> None:
        """Let time pass."""
        scheduler = self.cluster.scheduler
        scheduler.run_until(scheduler.now + ticks * TICK_US)

    def holders(self, checksum: bytes) -> list[int]:
        """Which others ever gave the prepare to their disks."""
        return [other.number for other in self.others if checksum in self.cluster.facts.disks[other.number].given]


def test_lonely_primary_orders_what_nobody_else_holds() -> None:
    """Clients reach it, replicas do not; when another leads, its tail is its alone."""
    trap = Trap(LONELY)
    assert trap.noted == ["lonely primary"]
    assert trap.blocked == trap.links(from_old=True, to_old=True)
    # What it sent before the cut may be anywhere; what it gets to order in the cut is nowhere else.
    trap.run_for(3)
    trap.run_until(lambda: trap.new is not None)
    log = _state(trap.old).log
    assert _state(trap.old).view == trap.view
    assert trap.holders(log.head_checksum) == []
    assert log.head > _state(trap.old).commit_max
    trap.run_until(lambda: not trap.blocked)
    trap.run_until(lambda: _state(trap.old).log_view > trap.view)
    assert all(replica.is_up for replica in trap.replicas)


def test_lonely_primary_is_killed_when_it_is_let_go() -> None:
    """Its tail goes into a restart."""
    trap = Trap(LONELY, then=KILL_THE_OLD)
    trap.run_until(lambda: trap.new is not None)
    trap.run_until(lambda: not trap.blocked)
    assert not trap.old.is_up


def test_lonely_primary_is_killed_soon_after_it_took_the_new_log() -> None:
    """It dies and starts at once; often before anything covers what it had to give up."""
    trap = Trap(LONELY, then=REBOOT_THE_OLD)
    trap.run_until(lambda: not trap.blocked)
    assert trap.old.is_up
    trap.run_until(lambda: not trap.old.is_up)
    killed = trap.cluster.scheduler.now
    trap.run_until(lambda: trap.old.is_up)
    assert trap.cluster.scheduler.now - killed <= 2000


def test_lonely_primary_meets_the_next_view_change_with_its_tail() -> None:
    """Its successor dies in the moment of its first commit, and the old tail is back among the logs."""
    trap = Trap(LONELY, then=KILL_THE_NEW)
    trap.run_until(lambda: trap.new is not None)
    new = trap.new
    assert new is not None
    first = _state(new).start_view_head
    trap.run_until(lambda: not new.is_up)
    assert trap.cluster.facts.committed_op > first
    assert not trap.blocked
    assert _state(trap.old).log_view == trap.view
    assert trap.holders(_state(trap.old).log.head_checksum) == []


def _is_deaf_when_it_wakes(trap: Trap) -> bool:
    """Let the old primary stop and go on: does it find a read, and still know nothing of the next view?"""
    assert trap.noted == ["deaf primary"]
    trap.run_until(lambda: trap.old.is_paused)
    assert trap.blocked == trap.links(from_old=False, to_old=True)
    waited: list[object] = []

    def is_awake() -> bool:
        if trap.old.is_paused:
            waited[:] = vars(trap.old)["_inbox"]
        return not trap.old.is_paused

    trap.run_until(is_awake)
    assert trap.new is not None
    has_read = any(isinstance(item, FromClient) and isinstance(item.message, Read) for item in waited)
    is_deaf = has_read and trap.old.view == trap.view and trap.blocked == trap.links(from_old=False, to_old=True)
    trap.run_until(lambda: not trap.blocked and trap.old.view > trap.view)
    return is_deaf


def test_deaf_primary_goes_on_with_a_read_before_it_hears_of_the_next_view() -> None:
    """It is stopped until another leads, and mostly a read waits for it and peers reach it only later."""
    assert sum(_is_deaf_when_it_wakes(Trap(DEAF, seed=seed)) for seed in range(1, 21)) >= 10


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("who", [0, 1, 2, 3])
def test_quick_restart_is_not_missed(who: int, steps: int) -> None:
    """A replica, or the primary (3), dies at once or in its disk's work, and is back before views change."""
    trap = Trap(QUICK, who=who, steps=steps)
    assert trap.noted == ["quick restart"]
    victim = trap.old if who == len(trap.replicas) else trap.replicas[who]
    entered = trap.cluster.counts["view_change_entered"]
    trap.run_until(lambda: not victim.is_up)
    died = trap.cluster.scheduler.now
    trap.run_until(lambda: victim.core is not None)
    assert trap.cluster.scheduler.now - died < 5 * TICK_US
    assert trap.cluster.counts["crashes"] == 1
    assert trap.cluster.counts["view_change_entered"] == entered
    assert trap.blocked == set()


@pytest.mark.parametrize("hears", [0, 1])
def test_last_words_reach_one_backup_only(hears: int) -> None:
    """What the primary ordered last is on its way to one of two when it dies."""
    trap = Trap(LAST_WORDS, hears=hears)
    assert trap.noted == ["last words"]
    heard, missed = trap.others[hears], trap.others[1 - hears]
    assert trap.blocked == {(trap.old.number, missed.number)}
    trap.run_until(lambda: not trap.old.is_up)
    trap.run_for(1)  # What is on its way to the one arrives.
    assert trap.blocked == {(trap.old.number, missed.number)}
    assert trap.new is None
    assert _state(heard).log.head > _state(missed).log.head
    assert trap.holders(_state(heard).log.head_checksum) == [heard.number]
    trap.run_until(lambda: not trap.blocked)


def test_unheard_words_reach_nobody() -> None:
    """What the primary ordered last dies with it."""
    trap = Trap(UNHEARD_WORDS)
    assert trap.noted == ["unheard words"]
    assert trap.blocked == trap.links(from_old=True, to_old=False)
    last = b""

    def is_dead() -> bool:
        nonlocal last
        if trap.old.core is not None:
            last = trap.old.core.state.log.head_checksum
        return not trap.old.is_up

    trap.run_until(is_dead)
    trap.run_for(1)
    assert trap.blocked
    assert last in trap.cluster.facts.disks[trap.old.number].given
    assert trap.holders(last) == []
    trap.run_until(lambda: not trap.blocked)


def test_late_copies_come_when_another_leads() -> None:
    """Whoever asked hears the answer as a backup of the next primary, just above its log, and does not take it."""
    trap = Trap(LATE_COPIES)
    assert trap.noted == ["late copies"]
    trap.run_until(lambda: bool(trap.blocked))
    assert trap.blocked == trap.links(from_old=True, to_old=True)
    lost = [
        op for op in range(1, _state(trap.old).log.head + 1) if not trap.holders(_state(trap.old).log.id(op).checksum)
    ]
    assert lost
    trap.run_until(lambda: trap.cluster.network.counts["repeated"] > 0)
    follower = next(replica for replica in trap.others if replica is not trap.new)
    assert _state(follower).view > trap.view
    trap.run_for(1)
    assert trap.holders(_state(trap.old).log.id(lost[0]).checksum) == []


def test_ambush_waits_for_a_primary() -> None:
    """While nobody leads there is nobody to lie in wait for."""
    trap = Trap(UNHEARD_WORDS, has_primary=False)
    assert trap.noted == []
    trap.run_until(lambda: trap.new is not None)
    trap.run_for(1)
    assert trap.noted == ["unheard words"]


@pytest.mark.parametrize("kind", range(len(AMBUSHES)))
def test_nothing_is_sprung_after_the_faults_are_over(kind: int) -> None:
    """A cluster that heals is left alone."""
    trap = Trap(kind, is_over=True)
    trap.run_for(30)
    assert trap.noted == []
    assert trap.blocked == set()
    assert trap.cluster.counts["crashes"] == 0
    assert trap.old.view == trap.view
    assert trap.old.is_primary


def _sprung(seed: int, ambushes: int) -> Counter[str]:
    choices = Choices(seed)
    shape = draw_ambushed(choices)
    report = run_shape(choices, attrs.evolve(shape, faults=attrs.evolve(shape.faults, ambushes=ambushes)))
    assert report.failure is None, report.failure
    return Counter({kind: report.counts[kind] for kind in AMBUSHES if report.counts[kind]})


def test_a_shape_without_ambushes_has_none() -> None:
    """The plan says how many; none means none."""
    assert _sprung(1, 0) == Counter()


def test_a_shape_with_ambushes_has_every_kind() -> None:
    """Two seeds of the ambushed swarm meet all of them, in no more than the plan says."""
    seen = [_sprung(seed, 8) for seed in (1, 2)]
    assert all(kinds.total() <= 8 for kinds in seen)
    assert set(seen[0] + seen[1]) == set(AMBUSHES)


def test_an_ambush_that_is_still_to_come_when_all_is_healed_does_not() -> None:
    """A primary about to be deafened stays as it is."""
    cluster = SimCluster(Choices(1, {("ambush", 0, "kind"): DEAF}), BUSY)
    cluster.start()
    assert cluster.run_until(lambda: any(it.is_primary for it in cluster.replicas), 10 * SECOND)
    is_over = [False]
    Ambushes(cluster, lambda _kind: None, lambda: is_over[0]).spring(0)
    is_over[0] = True
    cluster.scheduler.run_until(cluster.scheduler.now + SECOND)
    assert not cluster.network.blocked
    assert not any(replica.is_paused for replica in cluster.replicas)
