"""Timestamps for prepares: data that never decides anything (PROTOCOL 5.1, T-23).

A primary's wall clock is clamped to the median of what a majority of voters believes, so that one
wild clock cannot drag the cluster's time away.
"""

from __future__ import annotations

from trio_pb.core.config import TICK_MS
from trio_pb.core.state import State

__all__ = ["CLAMP_NS", "ClusterClock"]

TICK_NS = TICK_MS * 1_000_000
CLAMP_NS = 5_000_000_000


class ClusterClock:
    """Wall offsets of the peers, sampled by ping and pong."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._offsets: dict[int, int] = {}  # Peer -> its wall clock minus our monotonic one, ns.
        self._last_tick = 0
        self._last_ns = 0

    def on_sample(self, replica: int, sent_tick: int, wall_ns: int) -> None:
        """A pong to our ping of `sent_tick` says that `replica`'s wall clock reads `wall_ns`."""
        middle_ns = (sent_tick + self.state.now_tick) * TICK_NS // 2
        self._offsets[replica] = wall_ns - middle_ns

    @property
    def is_set(self) -> bool:
        """Whether there is more than our own clock to go by: others' clocks, or a time that was given before.

        The first time of all is never ours alone: if our clock were years ahead, all later ones would be as well.
        """
        state = self.state
        known = 1 + sum(1 for replica in state.voters_but_self if replica in self._offsets)
        return known >= state.quorums.view_change or max(self._last_ns, state.last_timestamp) > 0

    def now_ns(self) -> int:
        """The cluster's time in nanoseconds."""
        state = self.state
        monotonic = state.now_tick * TICK_NS
        own = state.wall_ns + (state.now_tick - state.wall_tick) * TICK_NS
        offsets = sorted([own - monotonic, *(self._offsets[r] for r in state.voters_but_self if r in self._offsets)])
        if len(offsets) >= state.quorums.view_change:
            middle = monotonic + offsets[(len(offsets) - 1) // 2]
            now = min(max(own, middle - CLAMP_NS), middle + CLAMP_NS)
        else:
            # Too few samples to judge our own clock: go on from the last timestamp by elapsed time.
            assert self.is_set, "a primary waits for other clocks before it gives the first time of all"
            past = max(self._last_ns, state.last_timestamp)
            now = past + (state.now_tick - self._last_tick) * TICK_NS
        now = max(now, state.last_timestamp + 1)
        self._last_tick, self._last_ns = state.now_tick, now
        return now
