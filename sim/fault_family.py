"""What every family of faults has in hand: a cluster, whom to tell, when to stop, and whom it hits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.replica import SimReplica

__all__ = ["FaultFamily", "Planned"]

# What is to happen: name, how often, and how; the last is given the index.
Planned: TypeAlias = "tuple[tuple[str, int, Callable[[int], None]], ...]"


class FaultFamily:
    """Base of the rooms that make faults happen; each tells its plan, and the injector keeps the times."""

    def __init__(
        self,
        cluster: SimCluster,
        note: Callable[[str], None],
        is_over: Callable[[], bool],
        victim: Callable[[Key], SimReplica],
    ) -> None:
        """`note(kind)` takes what happened; nothing happens any more once `is_over()`.

        `victim(key)` draws a replica, the primary more often than another.
        """
        self._cluster = cluster
        self._choices: Choices = cluster.choices
        self._note = note
        self._is_over = is_over
        self._victim = victim
