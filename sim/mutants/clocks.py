"""Planted bugs: time as data (PROTOCOL 5.1)."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from sim.mutants.mutant import Patch, mutant
from trio_pb.core import cluster_clock, execution
from trio_pb.core.ports import Apply
from trio_pb.core.prepare import Prepare


@mutant(
    breaks="the median clamp (5.1, T-23)",
    source="one wild clock in Spanner-like clusters; TigerBeetle's cluster clock",
    expects=("sane time",),
)
def own_clock_only(patch: Patch) -> None:
    """A primary dates orders by its own clock, whatever the others' say."""

    def wrong(self: cluster_clock.ClusterClock) -> int:
        state = self.state
        return max(state.wall_ns, state.last_timestamp + 1)

    patch.set(cluster_clock.ClusterClock, "now_ns", wrong)


@mutant(
    breaks="timestamps rise (5.1, T-23)",
    source="clock steps in MongoDB and Cassandra",
    expects=(
        "INV-17",
        "sane time",
    ),
)
def time_runs_back(patch: Patch) -> None:
    """An order may be dated before the one that it follows."""

    def wrong(self: cluster_clock.ClusterClock) -> int:
        self.state.last_timestamp = 0
        return self.state.wall_ns

    patch.set(cluster_clock.ClusterClock, "now_ns", wrong)


@mutant(
    breaks="5.1: time goes on by ticks where clocks are few (T-23)",
    source="a cluster whose first time came from the one clock that was wrong",
    expects=("sane time", "INV-17"),
)
def first_time_of_all_is_ours(patch: Patch) -> None:
    """A primary gives the first time of all without having heard of another clock."""
    patch.set(cluster_clock.ClusterClock, "is_set", property(_always_set))
    patch.set(cluster_clock.ClusterClock, "now_ns", _now_of_whoever_is_there)


def _always_set(_self: cluster_clock.ClusterClock) -> bool:
    return True


def _now_of_whoever_is_there(self: cluster_clock.ClusterClock) -> int:
    state = self.state
    return max(state.wall_ns + (state.now_tick - state.wall_tick) * 10_000_000, state.last_timestamp + 1)


@mutant(
    breaks="what executes knows the log only (T-22)",
    source="VR Revisited 4.1; stored procedures that call now()",
    expects=("INV-1", "INV-20", "INV-19"),
)
def execute_with_the_local_clock(patch: Patch) -> None:
    """Requests are executed with the time of the replica, not that of the prepare."""
    apply: Callable[[execution.Execution, Prepare], None] = vars(execution.Execution)["_apply"]

    def wrong(self: execution.Execution, prepare: Prepare) -> None:
        apply(self, prepare)
        outputs = self.state.outputs
        given = outputs[-1]
        assert isinstance(given, Apply)
        outputs[-1] = attrs.evolve(given, timestamp=self.state.wall_ns)

    patch.set(execution.Execution, "_apply", wrong)
