"""What a seed draws before its run: sizes from the simulator's swarm, and which faults the driver meets."""

from __future__ import annotations

import attrs

from sim.choices import Choices
from sim.profiles import DEFAULT_PROFILE, PROFILES
from sim.shape import Shape
from trio_pb.testbed.in_memory.streams import StreamFaults

__all__ = ["DriverShape", "FaultCounts", "draw_driver_shape"]

MS = 1000  # Microseconds.
OPERATIONS_MAX = 60  # Of all clients: a run of the driver costs some fifty times one of the core.
CLIENTS_MAX = 3
REPLICAS_MAX = 5


@attrs.frozen(kw_only=True)
class FaultCounts:
    """How often each kind of fault happens in a run."""

    crashes: int = 0
    power_cuts: int = 0  # Of all machines at once.
    stops: int = 0  # Graceful.
    pauses: int = 0  # Of everything at once: whatever was to happen meanwhile happens in one moment.
    resets: int = 0  # Of a connection.
    stalls: int = 0  # Of one direction of a connection.
    partitions: int = 0
    refusals: int = 0  # Times in which dialling is refused now and then.
    strangers: int = 0  # Somebody else's bytes on the port.
    io_errors: int = 0
    disk_stalls: int = 0
    full_disks: int = 0
    client_deaths: int = 0


@attrs.frozen(kw_only=True)
class DriverShape:
    """Everything that a run draws before it starts."""

    sizes: Shape
    streams: StreamFaults = attrs.field(factory=StreamFaults)
    faults: FaultCounts = attrs.field(factory=FaultCounts)
    cancellations: float = 0.0  # Share of calls whose caller loses patience.
    calls_max: int = 4096  # Of one client at once; more wait.
    patience: int = 30_000 * MS  # Without faults every answer comes within this time.
    grain: int = 1  # Of virtual time, microseconds: a coarse one makes many things happen at once.
    down_mean: int = 200 * MS  # Until a dead replica is started again.
    span_mean: int = 300 * MS  # How long a fault that has an end lasts.


def draw_driver_shape(choices: Choices) -> DriverShape:
    """Return the circumstances of a run."""

    def one_of(label: str, *values: int) -> int:
        return values[choices.number(("driver", label), 0, len(values) - 1, 0)]

    def some(label: str, probability: float, *counts: int) -> int:
        return one_of(label, *counts) if choices.flag(("driver", label, "exist"), probability) else 0

    sizes = PROFILES[DEFAULT_PROFILE](choices)
    clients = min(sizes.clients, CLIENTS_MAX)
    share = min(sizes.workload.operations * sizes.clients, OPERATIONS_MAX) // clients
    return DriverShape(
        sizes=attrs.evolve(
            sizes,
            replicas=min(sizes.replicas, REPLICAS_MAX),
            clients=clients,
            workload=attrs.evolve(sizes.workload, operations=share),
        ),
        streams=StreamFaults(
            latency_mean=one_of("latency", 200, 50, 1 * MS, 10 * MS),
            short_reads=some("short reads", 0.5, 10, 50, 100) / 100,
            short_writes=some("short writes", 0.5, 10, 50, 100) / 100,
            corruption=some("corruption", 0.1, 1, 4) / 1000,
            capacity=one_of("capacity", 1 << 20, 1 << 20, 1 << 16, 3000),
            direct=one_of("direct", 100, 100, 50, 0) / 100,
        ),
        faults=FaultCounts(
            crashes=some("crashes", 0.5, 1, 2, 4),
            power_cuts=some("power cuts", 0.2, 1, 2),
            stops=some("stops", 0.25, 1, 2),
            pauses=some("pauses", 0.4, 2, 6, 15),
            resets=some("resets", 0.5, 2, 5, 15),
            stalls=some("stalls", 0.4, 1, 3, 6),
            partitions=some("partitions", 0.4, 1, 3),
            refusals=some("refusals", 0.2, 1, 2),
            strangers=some("strangers", 0.3, 2, 6),
            io_errors=some("io errors", 0.2, 1, 2),
            disk_stalls=some("disk stalls", 0.25, 1, 3),
            full_disks=some("full disks", 0.15, 1, 2),
            client_deaths=some("client deaths", 0.3, 1, 3),
        ),
        cancellations=some("cancellations", 0.4, 5, 30) / 100,
        calls_max=one_of("calls", 4096, 4),
        grain=one_of("grain", 1, 1, 1 * MS, 10 * MS),
        down_mean=one_of("down", 200, 5, 1000) * MS,
        span_mean=one_of("span", 300, 50, 2000) * MS,
    )
