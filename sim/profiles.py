"""The swarm: each seed first draws the shape of its world, and which few kinds of faults exist in it at all.

A run in which everything fails at once finds less than many runs in which two or three things fail a
lot: so each kind of fault exists in a fair share of the seeds only, and its strength is drawn as well.
A profile is a way to draw; `PROFILES` has them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import attrs

from sim.choices import Choices
from sim.network import NetworkFaults
from sim.shape import DiskFaultPlan, DiskSpeed, FaultPlan, Shape, WorkloadPlan
from trio_pb.core.client_ports import ClientOptions
from trio_pb.core.config import Limits, Timeouts

__all__ = ["DEFAULT_PROFILE", "PROFILES", "Profile", "draw_ambushed", "draw_shape"]

Profile: TypeAlias = "Callable[[Choices], Shape]"

MS = 1000  # Microseconds.
# Ticks between two slices of scrubbing: in haste where there is something to find.
SCRUBS = ((100, 20), (4, 2, 20))
AMBUSHED_SHARE = 0.2  # Of the seeds; they meet most of the truncations.
DECAYING_SHARE = 0.5  # The others have the faults of crashes only (INV-28).


class _Draw:
    """Draws of the shape, each with the benign default first."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices

    def one_of(self, label: str, *values: int) -> int:
        """One of `values`; equally likely, the first is the default. Repeat a value to favour it."""
        return values[self._choices.number(("shape", label), 0, len(values) - 1, 0)]

    def exists(self, label: str, probability: float) -> bool:
        """Whether a kind of fault exists in this run."""
        return self._choices.flag(("shape", label), probability)


def draw_shape(choices: Choices) -> Shape:
    """Return the circumstances of a run."""
    draw = _Draw(choices)
    if draw.exists("ambushed", AMBUSHED_SHARE):
        return draw_ambushed(choices)
    clients = draw.one_of("clients", 1, 2, 3, 4, 5)
    hurry = draw.one_of("hurry", 1, 2, 4, 4)
    replicas = draw.one_of("replicas", 3, 3, 3, 3, 3, 3, 1, 2, 4, 5)
    decaying = draw.one_of("decaying", 1, 2) if replicas > 2 and draw.exists("decay exists", DECAYING_SHARE) else 0
    workload = _draw_workload(draw, clients, hurry)
    flips = int(replicas > 2 and draw.exists("flip exists", 0.08))
    if flips:  # Where neither scans nor keys look, a wrong state shows in checkpoints only, never in an answer.
        workload = attrs.evolve(workload, scans=0.0, keys=0.0)
    return Shape(
        replicas=replicas,
        clients=clients,
        limits=_draw_limits(draw),
        timeouts=_timeouts(
            hurry, heartbeats=draw.one_of("heartbeats", 3, 3, 3, 8), scrub=draw.one_of("scrub", *SCRUBS[decaying > 0])
        ),
        client_options=_client_options(hurry),
        network=_draw_network(draw, hurry),
        disk=_draw_disk(draw),
        workload=workload,
        faults=_draw_faults(draw, hurry, flips, _draw_disk_faults(draw, hurry, decaying)),
        codec=draw.exists("codec", 1 / 8),
        record=draw.exists("record", 1 / 16),
        turn_delay=draw.one_of("turn delay", 0, 0, 50, 500, 3 * MS),
        clock_spread_ms=draw.one_of("clock spread", 0, 5, 500, 10_000),
        segment_size=draw.one_of("segment size", 128, 64, 256) * 1024,
    )


def draw_ambushed(choices: Choices) -> Shape:
    """Return circumstances in which one primary after the other is led into an ambush, and little else happens."""
    draw = _Draw(choices)
    clients = draw.one_of("clients", 1, 2, 3)
    return Shape(
        clients=clients,
        # A short silence deposes a primary, but the other timers leave its tail the time to be written, and
        # a heartbeat every tick tells it of the new view before the script kills it.
        timeouts=Timeouts(heartbeat_ticks=1, suspect_ticks=12, suspect_jitter_ticks=6, check_quorum_ticks=10),
        network=NetworkFaults(latency_min=50, latency_mean=draw.one_of("latency mean", 100, 500, 3 * MS)),
        workload=WorkloadPlan(
            operations=60 // clients,
            in_flight=draw.one_of("in flight", 2, 1, 8),
            think_mean=draw.one_of("think", 0, 20, 100) * MS,
        ),
        disk=_disk(draw.one_of("slow disk", 1, 1, 10)),
        faults=FaultPlan(
            duration=30_000 * MS, follow_work=True, ambushes=8, down_mean=draw.one_of("down", 1, 300) * MS
        ),
    )


def _draw_limits(draw: _Draw) -> Limits:
    pipeline = draw.one_of("pipeline", 32, 32, 8, 4, 1)
    interval = draw.one_of("checkpoint interval", 16, 8, 4, 32, 1024)
    return Limits(
        pipeline_max=pipeline,
        pipeline_eager_max=min(pipeline, draw.one_of("eager", 4, 1, 2)),
        batch_requests_max=draw.one_of("batch", 256, 8, 2),
        # Few sessions only where eviction is to be met: a client whose session is gone loses requests.
        sessions_max=draw.one_of("sessions", 64, 64, 64, 64, 64, 3),
        session_window=draw.one_of("window", 8, 8, 2, 1),
        body_cache_ops=max(pipeline, draw.one_of("body cache", 256, 32, 8)),
        prepare_buffer_max=draw.one_of("prepare buffer", 64, 4),
        send_window_ops=draw.one_of("send window", 256, 16),
        repair_requests_max=draw.one_of("repair requests", 8, 1),
        repair_wanted_max=draw.one_of("repair wanted", 32, 2),
        wal_reads_max=draw.one_of("journal reads", 64, 2),
        checkpoint_interval_ops=interval,
        wal_ops=interval * draw.one_of("journal intervals", 4, 2, 3),
        probe_interval_ops=draw.one_of("probe interval", 64, 8),
    )


def _timeouts(hurry: int, heartbeats: int, scrub: int) -> Timeouts:
    """Patient or hasty replicas: where views change fast, a run that waits as little sees many of them.

    With few `heartbeats` in the time after which a primary lets go, less of a run is idle talk.
    """
    return Timeouts(
        heartbeat_ticks=40 // hurry // heartbeats,
        ping_ticks=max(12, 20 // hurry),
        alive_ticks=max(30, 50 // hurry),
        suspect_ticks=50 // hurry,
        suspect_jitter_ticks=25 // hurry,
        check_quorum_ticks=40 // hurry,
        repair_ticks=20 // hurry,
        hello_ticks=20 // hurry,
        disk_ticks=100 // hurry,
        checkpoint_retry_ticks=500 // hurry,
        space_ticks=100 // hurry,
        scrub_ticks=scrub,
    )


def _client_options(hurry: int) -> ClientOptions:
    """Clients as patient as the replicas."""
    return ClientOptions(
        retransmit_ms=500 // hurry,
        retransmit_ms_max=4000 // hurry,
        connect_timeout_ms=1000 // hurry,
        silence_ms=300 // hurry,
        drop_ms=2000 // hurry,
    )


def _draw_network(draw: _Draw, hurry: int) -> NetworkFaults:
    return NetworkFaults(
        latency_min=draw.one_of("latency min", 200, 50, 2 * MS),
        latency_mean=draw.one_of("latency mean", 500, 100, 3 * MS, 15 * MS),
        loss=draw.one_of("loss", 2, 5, 10, 20) / 100 if draw.exists("loss exists", 0.35) else 0.0,
        duplication=draw.one_of("duplication", 2, 10, 30) / 100 if draw.exists("duplication exists", 0.3) else 0.0,
        spike=draw.one_of("spike", 2, 5, 15) / 100 if draw.exists("spike exists", 0.3) else 0.0,
        spike_max=draw.one_of("spike max", 300, 1000, 3000) * MS // hurry,
    )


def _draw_disk(draw: _Draw) -> DiskSpeed:
    return _disk(draw.one_of("slow disk", 1, 1, 1, 10, 50))


def _disk(slow: int) -> DiskSpeed:
    return DiskSpeed(flush_min=100 * slow, flush_mean=300 * slow)


def _draw_workload(draw: _Draw, clients: int, hurry: int) -> WorkloadPlan:
    return WorkloadPlan(
        # A run's work is that of all clients together; spread over the time in which faults happen it
        # meets more of them than twice the work in a hurry.
        operations=draw.one_of("operations", 80, 60, 120) // clients,
        in_flight=draw.one_of("in flight", 1, 2, 8),
        think_mean=draw.one_of("think", 20, 30, 10, 0) * clients * MS // hurry,
        customers=draw.one_of("customers", 4, 1, 16),
        shared=draw.one_of("shared", 0, 1) == 1,
        reads=draw.one_of("reads", 20, 0, 50) / 100,
        reads_here=draw.one_of("reads here", 0, 50, 100) / 100,
        scans=draw.one_of("scans", 0, 2, 5) / 100,
        overwrites=draw.one_of("overwrites", 0, 0, 50) / 100,
        keys=draw.one_of("keys", 0, 50) / 100,
        deadline_ms=draw.one_of("deadline", 600_000, 600_000, 600_000, 1000),
    )


def _draw_disk_faults(draw: _Draw, hurry: int, decaying: int) -> DiskFaultPlan:
    """Several kinds of decay where there is any: each alone would meet the others' repairs too rarely."""

    def some(label: str, probability: float, *counts: int) -> int:
        return draw.one_of(label, *counts) if draw.exists(f"{label} exist", probability) else 0

    return DiskFaultPlan(
        decaying=decaying,
        rots=some("rots", 0.6, 2, 1, 4, 10) if decaying else 0,
        unreadable=some("unreadable", 0.4, 2, 1, 6) if decaying else 0,
        misdirected=some("misdirected", 0.4, 2, 1, 6) if decaying else 0,
        lost_writes=some("lost writes", 0.4, 2, 1, 6) if decaying else 0,
        lost_files=some("lost files", 0.3, 1, 2, 3) if decaying else 0,
        io_errors=some("input/output errors", 0.2, 1, 3),
        full_disks=some("full disks", 0.15, 1, 3),
        stalls=some("stalls", 0.2, 1, 3),
        full_mean=draw.one_of("full", 500, 2000) * MS // hurry,
        stall_mean=draw.one_of("stall", 500, 100, 2000) * MS // hurry,
    )


def _draw_faults(draw: _Draw, hurry: int, flips: int, disks: DiskFaultPlan) -> FaultPlan:
    # At fixed times most faults would come after quick clients are done, or before anybody leads.
    follow_work = draw.exists("follow work", 2 / 3)
    return FaultPlan(
        duration=draw.one_of("duration", 1000, 2000, 3000) * MS // hurry * (8 if follow_work else 1),
        follow_work=follow_work,
        crashes=draw.one_of("crashes", 1, 2, 4, 8) if draw.exists("crashes exist", 0.6) else 0,
        power_cuts=draw.one_of("power cuts", 1, 2) if draw.exists("power cuts exist", 0.2) else 0,
        pauses=draw.one_of("pauses", 1, 3) if draw.exists("pauses exist", 0.25) else 0,
        ambushes=draw.one_of("ambushes", 1, 3, 6) if draw.exists("ambushes exist", 0.6) else 0,
        partitions=draw.one_of("partitions", 1, 2, 5) if draw.exists("partitions exist", 0.45) else 0,
        down_mean=draw.one_of("down", 100, 1, 600) * MS // hurry,
        pause_mean=draw.one_of("pause", 100, 700) * MS // hurry,
        partition_mean=draw.one_of("partition", 500, 1200) * MS // hurry,
        process_share=draw.one_of("process share", 50, 0, 100) / 100,
        flips=flips,
        disks=disks,
    )


DEFAULT_PROFILE = "all"
PROFILES: Mapping[str, Profile] = MappingProxyType({DEFAULT_PROFILE: draw_shape, "ambush": draw_ambushed})
