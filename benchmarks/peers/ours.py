"""Three replicas of trio_pb, on their defaults; orders for a put, a customer's record for a get."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from benchmarks.peers.points import Found, Point
from trio_pb.testbed.cluster import LocalCluster, local_cluster
from trio_pb.testbed.load.plan import LoadPlan, Mix
from trio_pb.testbed.load.run import measure, place_one_each

__all__ = ["ours"]


@attrs.frozen
class _Ours:
    cluster: LocalCluster
    is_lean: bool

    @property
    def name(self) -> str:
        return "trio_pb, lean client" if self.is_lean else "trio_pb, its own client"

    def can(self, point: Point) -> bool:
        return True

    async def measure(self, point: Point, warm_up_seconds: float, seconds: float) -> Found:
        plan = LoadPlan(
            customers=point.clients,
            connections=point.connections,
            mix=Mix() if point.op == "put" else Mix(place=0, read=100),
            is_lean=self.is_lean,
            warm_up_seconds=warm_up_seconds,
            seconds=seconds,
        )
        if point.op == "get":
            await place_one_each(self.cluster, point.clients)
        found = await measure(self.cluster, plan)
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


@asynccontextmanager
async def ours(directory: Path, *, is_lean: bool) -> AsyncGenerator[_Ours]:
    """A cluster that has a primary."""
    async with local_cluster(name="bench", parent=directory) as cluster:
        yield _Ours(cluster, is_lean)
