"""Virtual time, and what counts as an event."""

from __future__ import annotations

from sim.choices import Choices
from sim.cluster import SimCluster
from sim.scheduler import SECOND, Scheduler
from sim.shape import Shape


def test_equal_times_keep_their_order() -> None:
    """Calls of one moment are made in the order in which they were asked for."""
    scheduler, made = Scheduler(), list[int]()
    for number in (1, 2, 3):
        scheduler.after(10, made.append, number)
    scheduler.after(5, made.append, 0)
    scheduler.run_until(10)
    assert made == [0, 1, 2, 3]
    assert (scheduler.now, scheduler.executed, len(scheduler)) == (10, 4, 0)


def test_a_wake_that_finds_nobody_is_no_event() -> None:
    """The timers of a replica that died are still on the clock, and count for nothing."""
    cluster = SimCluster(Choices(1), Shape())
    cluster.start()
    cluster.run_until(lambda: False, SECOND)
    idle = cluster.scheduler.idle
    cluster.replicas[0].crash(power=False)
    cluster.run_until(lambda: False, 2 * SECOND)
    assert cluster.scheduler.idle == idle + 1
