"""Three replicas of trio_pb, on their defaults; orders for a put, a customer's record for a get."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from benchmarks.peers.points import Found, Point
from trio_pb.testbed.cluster import local_cluster
from trio_pb.testbed.load.plan import LoadPlan, Mix
from trio_pb.testbed.load.run import Measured, measure

__all__ = ["ours"]


@attrs.frozen
class _Ours:
    directory: Path
    is_lean: bool

    @property
    def name(self) -> str:
        return "trio_pb, lean client" if self.is_lean else "trio_pb, its own client"

    @property
    def promise(self) -> str:
        return "durable on a majority, exactly once"

    def can(self, point: Point) -> bool:
        return True

    def measure(self, point: Point, warm_up_seconds: float, seconds: float) -> Found:
        plan = LoadPlan(
            customers=point.clients,
            connections=point.connections,
            mix=Mix() if point.op == "put" else Mix(place=0, read=100),
            is_lean=self.is_lean,
            warm_up_seconds=warm_up_seconds,
            seconds=seconds,
        )
        found = trio.run(partial(_measure, self.directory, plan))
        latencies = found.tally.latencies["place" if point.op == "put" else "read"]
        spent = found.cpu_ms_per_1000
        load = sum(used for name, used in spent.items() if name.startswith("customers"))
        return Found(
            system=self.name,
            point=point,
            per_second=found.per_second,
            p50_ms=latencies.at(0.5),
            p99_ms=latencies.at(0.99),
            servers_cpu_us=sum(spent.values()) - load,
            load_cpu_us=load,
            others_cores=found.usage.others_cores,
            is_quiet=found.usage.is_quiet,
        )


async def _measure(directory: Path, plan: LoadPlan) -> Measured:
    async with local_cluster(name="bench", parent=directory) as cluster:
        return await measure(cluster, plan)


@contextmanager
def ours(directory: Path, *, is_lean: bool) -> Generator[_Ours]:
    """Each measurement starts a cluster of its own."""
    directory.mkdir()
    yield _Ours(directory, is_lean)
