"""What is measured of each system, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

__all__ = ["POINTS", "Found", "Point", "System", "middle"]


@attrs.frozen
class Point:
    """So many clients, each of whom asks again when it has its answer."""

    op: str  # "put": a durable write. "get": a linearizable read.
    clients: int
    connections: int

    def __str__(self) -> str:
        """As in a table."""
        shared = "" if self.connections == self.clients else f" over {self.connections}"
        return f"{self.op} {self.clients}{shared}"


POINTS = (
    Point("put", 1, 1),
    Point("put", 16, 16),
    Point("put", 100, 100),
    Point("put", 500, 500),
    Point("put", 100, 1),
    Point("put", 100, 16),
    Point("get", 100, 100),
    Point("get", 100, 1),
)


@attrs.frozen
class Found:
    """One measurement."""

    system: str
    point: Point
    per_second: float
    p50_ms: float
    p99_ms: float
    servers_cpu_us: float  # Processor time of all servers for one answer.
    load_cpu_us: float
    others_cores: float  # That everybody else kept busy.
    is_quiet: bool


class System(Protocol):
    """A running cluster of some kind."""

    @property
    def name(self) -> str:
        """As in a table."""
        ...

    def can(self, point: Point) -> bool:
        """Whether it can be asked so."""
        ...

    async def measure(self, point: Point, warm_up_seconds: float, seconds: float) -> Found:
        """Put the load on it; who gets something has put it before."""
        ...


def middle(runs: Sequence[Found]) -> Found:
    """The run whose throughput is in the middle, of an even number the slower; of quiet runs if there are any."""
    chosen = sorted([run for run in runs if run.is_quiet] or runs, key=lambda run: run.per_second)
    return chosen[(len(chosen) - 1) // 2]
