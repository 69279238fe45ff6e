"""The swarm: each seed first draws the shape of its world, and which few kinds of faults exist in it at all.

A run in which everything fails at once finds less than many runs in which two or three things fail a
lot: so each kind of fault exists in a fair share of the seeds only, and its strength is drawn as well.
A profile is a way to draw: of everything, of some families of faults (which exist more often then), of
ambushes only, or of none at all. `PROFILES` has them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

import attrs

from sim.choices import Choices
from sim.network import NetworkFaults
from sim.scheduler import TICK_US
from sim.shape import DiskFaultPlan, DiskSpeed, FaultPlan, Shape, WorkloadPlan
from trio_pb.core.client_ports import ClientOptions
from trio_pb.core.config import Limits, Timeouts

__all__ = ["DEFAULT_PROFILE", "FAMILIES", "PROFILES", "Family", "Profile", "draw_ambushed", "draw_calm", "draw_shape"]

Profile: TypeAlias = "Callable[[Choices], Shape]"

MS = 1000  # Microseconds.
KIB = 1024
# Ticks between two slices of scrubbing: in haste where there is something to find.
SCRUBS = ((100, 20), (4, 2, 20))
AMBUSHED_SHARE = 0.2  # Of the seeds; they meet most of the truncations.
DECAYING_SHARE = 0.5  # The others have the faults of crashes only (INV-28).
LARGE_SHARE = 0.06  # Clusters of 6 and 7: each costs as much as several small ones.
MIXED_SHARE = 0.1  # Of the seeds, in which replicas of two releases run side by side.
TIGHT_SHARE = 0.1  # Of the seeds, in which replicas serve one another little at a time.
CORE_SHARE = 0.3
CODEC_SHARE = 1 / 8  # Bytes, not objects: messages take twice the time.
CODEC_SHARE_FOCUSED = 1 / 3
FOCUSED = 1.6  # How much more often a fault exists where other families do not.


class Family(Enum):
    """What belongs together among the faults; a profile has some of them."""

    NETWORK = "network"
    PROCESS = "process"
    DISK = "disk"
    CLOCK = "clock"
    CLIENT = "client"
    MEMORY = "memory"
    AMBUSH = "ambush"
    ADVERSARY = "adversary"


EVERYTHING = frozenset(Family)


class _Draw:
    """Draws of the shape, each with the benign default first."""

    def __init__(self, choices: Choices, families: frozenset[Family] = EVERYTHING) -> None:
        self._choices = choices
        self._families = families

    def one_of(self, label: str, *values: int) -> int:
        """One of `values`; equally likely, the first is the default. Repeat a value to favour it."""
        return values[self._choices.number(("shape", label), 0, len(values) - 1, 0)]

    def exists(self, label: str, probability: float) -> bool:
        """Whether a kind of fault exists in this run."""
        return self._choices.flag(("shape", label), probability)

    def has(self, family: Family, label: str, probability: float) -> bool:
        """Whether a kind of fault exists in this run, where its family may; more often where few families may."""
        if family not in self._families:
            return False
        return self.exists(label, probability if self._families == EVERYTHING else min(0.9, FOCUSED * probability))

    def replicas(self) -> int:
        """How many there are."""
        usual = self.one_of("replicas", 3, 3, 3, 3, 3, 3, 1, 2, 4, 5)
        return self.one_of("large", 6, 7) if self.exists("large cluster", LARGE_SHARE) else usual


def draw_shape(choices: Choices, families: frozenset[Family] = EVERYTHING) -> Shape:
    """Return the circumstances of a run in which faults of some families may exist."""
    draw = _Draw(choices, families)
    if families == EVERYTHING and draw.exists("ambushed", AMBUSHED_SHARE):
        return draw_ambushed(choices)
    clients = draw.one_of("clients", 1, 2, 3, 4, 5)
    hurry = draw.one_of("hurry", 1, 2, 4, 4)
    replicas = draw.replicas()
    decaying = 0
    if replicas > 2 and draw.has(Family.DISK, "decay exists", DECAYING_SHARE):
        decaying = draw.one_of("decaying", 1, 2)
    workload = _draw_workload(draw, clients, hurry)
    codec = draw.exists("codec", CODEC_SHARE if families == EVERYTHING else CODEC_SHARE_FOCUSED)
    flips = int(replicas > 2 and draw.has(Family.MEMORY, "flip exists", 0.15))
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
        network=_draw_network(draw, hurry, codec=codec),
        disk=_draw_disk(draw),
        workload=workload,
        faults=_draw_faults(draw, hurry, replicas, flips, _draw_disk_faults(draw, hurry, decaying)),
        codec=codec,
        record=draw.exists("record", 1 / 16),
        turn_delay=draw.one_of("turn delay", 0, 0, 50, 500, 3 * MS),
        tick_drift_percent=_draw_tick_drift(draw) if draw.has(Family.CLOCK, "tick drift exists", 0.15) else 0,
        clock_spread_ms=draw.one_of("clock spread", 0, 5, 500, 10_000) if Family.CLOCK in families else 0,
        segment_size=draw.one_of("segment size", 128, 64, 256) * 1024,
        mixed_releases=draw.exists("mixed releases", MIXED_SHARE),
    )


def draw_ambushed(choices: Choices) -> Shape:
    """Return circumstances in which one primary after the other is led into an ambush, and little else happens."""
    draw = _Draw(choices)
    clients = draw.one_of("clients", 1, 2, 3)
    return Shape(
        clients=clients,
        # A short silence deposes a primary, but the other timers leave its tail the time to be written, and
        # a heartbeat every tick tells it of the new view before the script kills it.
        timeouts=Timeouts(
            heartbeat_ticks=1, suspect_ticks=12, suspect_jitter_ticks=6, check_quorum_ticks=10, disk_ticks=50
        ),
        network=NetworkFaults(latency_min=50, latency_mean=draw.one_of("latency mean", 100, 500, 3 * MS)),
        workload=WorkloadPlan(
            operations=60 // clients,
            in_flight=draw.one_of("in flight", 2, 1, 8),
            think_mean=draw.one_of("think", 0, 20, 100) * MS,
        ),
        disk=_disk(draw.one_of("slow disk", 1, 1, 10)),
        tick_drift_percent=_draw_tick_drift(draw) if draw.exists("tick drift exists", 0.3) else 0,
        # Hasty clients look for another primary about as soon as the backups do: then it has work to do. Patient ones
        # leave the old one a long tail.
        client_options=_client_options(4 if draw.exists("hasty clients", 0.25) else 1),
        faults=FaultPlan(
            duration=30_000 * MS,
            core_share=CORE_SHARE,
            follow_work=True,
            ambushes=8,
            ancient_messages=int(draw.exists("ancient messages", 0.5)),
            old_positions=int(draw.exists("old positions", 0.2)),
            last_restarts=int(draw.exists("last restart", 0.2)),
            down_mean=draw.one_of("down", 1, 300) * MS,
            disks=DiskFaultPlan(dead_disks=2 * int(draw.exists("dead disk", 0.3))),
        ),
        mixed_releases=draw.exists("mixed releases", MIXED_SHARE),
    )


def draw_calm(choices: Choices) -> Shape:
    """Return circumstances without faults, in which no view may change, but for one replica that may be cut off.

    Timers are patient compared with the slowest message and the slowest flush, as an operator would set them.
    """
    draw = _Draw(choices)
    clients = draw.one_of("clients", 1, 2, 3, 4, 5)
    hurry = draw.one_of("hurry", 1, 2)
    replicas = draw.replicas()
    duration = 13_000 * TICK_US // hurry
    workload = _draw_workload(draw, clients, hurry)
    # The work lasts as long as the quiet: about half of it at rest, the other half under load.
    think_mean = duration // (2 * workload.operations) * workload.in_flight
    return Shape(
        replicas=replicas,
        clients=clients,
        limits=_draw_limits(draw),
        timeouts=_timeouts(hurry, heartbeats=draw.one_of("heartbeats", 8, 4), scrub=20),
        client_options=_client_options(hurry),
        network=NetworkFaults(
            latency_min=draw.one_of("latency min", 200, 50, MS), latency_mean=draw.one_of("latency mean", 500, 100, MS)
        ),
        disk=_disk(draw.one_of("slow disk", 1, 1, 10)),
        workload=attrs.evolve(workload, think_mean=think_mean),
        faults=FaultPlan(
            duration=duration,
            settling=1000 * TICK_US // hurry,
            isolations=int(replicas > 2 and draw.exists("isolation exists", 0.6)),
        ),
        codec=draw.exists("codec", 1 / 16),
        turn_delay=draw.one_of("turn delay", 0, 0, 50, 500),
        clock_spread_ms=draw.one_of("clock spread", 0, 5, 500, 10_000),
    )


def _draw_limits(draw: _Draw) -> Limits:
    pipeline = draw.one_of("pipeline", 32, 32, 8, 4, 1)
    interval = draw.one_of("checkpoint interval", 16, 8, 4, 32, 1024)
    batch = draw.one_of("batch", 256, 8, 2)
    # Serving is throttled where a peer can take a batch or a piece of a chunk in a period, and little more.
    is_tight = draw.exists("tight serving", TIGHT_SHARE)
    return Limits(
        pipeline_max=pipeline,
        pipeline_eager_max=min(pipeline, draw.one_of("eager", 4, 1, 2)),
        batch_requests_max=min(batch, 8) if is_tight else batch,
        # Few sessions only where eviction is to be met: a client whose session is gone loses requests.
        sessions_max=draw.one_of("sessions", 64, 64, 64, 64, 64, 3),
        session_window=draw.one_of("window", 8, 8, 2, 1),
        body_cache_ops=max(pipeline, draw.one_of("body cache", 256, 32, 8)),
        prepare_buffer_max=draw.one_of("prepare buffer", 64, 4),
        send_window_ops=draw.one_of("send window", 256, 16),
        repair_requests_max=draw.one_of("repair requests", 8, 1),
        repair_wanted_max=draw.one_of("repair wanted", 32, 2),
        # A batch and a chunk of such a run are smaller than the least.
        repair_serve_bytes_max=4 * KIB if is_tight else draw.one_of("repair serve", 2048, 2048, 64) * KIB,
        chunk_piece_max=2 * KIB if is_tight else 256 * KIB,
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


def _draw_network(draw: _Draw, hurry: int, *, codec: bool) -> NetworkFaults:
    def some(label: str, probability: float, *percent: int) -> float:
        exists = draw.has(Family.NETWORK, f"{label} exists", probability)
        return draw.one_of(label, *percent) / 100 if exists else 0.0

    narrow = draw.has(Family.NETWORK, "narrow exists", 0.1)
    return NetworkFaults(
        latency_min=draw.one_of("latency min", 200, 50, 2 * MS),
        latency_mean=draw.one_of("latency mean", 500, 100, 3 * MS, 15 * MS),
        loss=some("loss", 0.35, 2, 5, 10, 20),
        duplication=some("duplication", 0.3, 2, 10, 30),
        spike=some("spike", 0.3, 2, 5, 15),
        spike_max=draw.one_of("spike max", 300, 1000, 3000) * MS // hurry,
        lateness=0.5 if draw.has(Family.CLIENT, "lateness exists", 0.5) else 0.0,
        corruption=some("corruption", 0.5, 1, 3, 10) if codec else 0.0,
        bytes_per_second=draw.one_of("bandwidth", 128, 32, 8) * KIB if narrow else 0,
        queue_bytes=draw.one_of("link queue", 4, 1, 16) * KIB,
    )


def _draw_tick_drift(draw: _Draw) -> int:
    """So much that a primary may be replaced long before it notices: safety must not depend on ticks either (G4)."""
    return draw.one_of("tick drift", 200, 100, 300)


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
        is_open=draw.exists("open arrivals", 0.12),
        deadline_ms=draw.one_of("deadline", 600_000, 600_000, 600_000, 1000),
    )


def _draw_disk_faults(draw: _Draw, hurry: int, decaying: int) -> DiskFaultPlan:
    """Several kinds of decay where there is any: each alone would meet the others' repairs too rarely."""

    def some(label: str, probability: float, *counts: int) -> int:
        return draw.one_of(label, *counts) if draw.has(Family.DISK, f"{label} exist", probability) else 0

    return DiskFaultPlan(
        decaying=decaying,
        rots=some("rots", 0.6, 2, 1, 4, 10) if decaying else 0,
        unreadable=some("unreadable", 0.4, 2, 1, 6) if decaying else 0,
        misdirected=some("misdirected", 0.4, 2, 1, 6) if decaying else 0,
        lost_writes=some("lost writes", 0.4, 2, 1, 6) if decaying else 0,
        short_writes=some("short writes", 0.3, 2, 1, 6) if decaying else 0,
        stale_reads=some("stale reads", 0.3, 2, 1, 6) if decaying else 0,
        lost_files=some("lost files", 0.3, 1, 2, 3) if decaying else 0,
        old_copies=some("old copies", 0.3, 2, 1, 4) if decaying else 0,
        bit_flips=some("bit flips", 0.4, 2, 1, 4) if decaying else 0,
        io_errors=some("input/output errors", 0.2, 1, 3),
        full_disks=some("full disks", 0.25, 1, 3),
        stalls=some("stalls", 0.2, 1, 3),
        dead_disks=some("dead disks", 0.25, 1, 2),
        full_mean=draw.one_of("full", 500, 2000) * MS // hurry,
        stall_mean=draw.one_of("stall", 500, 100, 2000) * MS // hurry,
    )


def _draw_faults(draw: _Draw, hurry: int, replicas: int, flips: int, disks: DiskFaultPlan) -> FaultPlan:
    def some(family: Family, label: str, probability: float, *counts: int) -> int:
        return draw.one_of(label, *counts) if draw.has(family, f"{label} exist", probability) else 0

    # At fixed times most faults would come after quick clients are done, or before anybody leads.
    follow_work = draw.exists("follow work", 2 / 3)
    return FaultPlan(
        duration=draw.one_of("duration", 1000, 2000, 3000) * MS // hurry * (8 if follow_work else 1),
        core_share=CORE_SHARE,
        follow_work=follow_work,
        crashes=some(Family.PROCESS, "crashes", 0.6, 1, 2, 4, 8),
        power_cuts=some(Family.PROCESS, "power cuts", 0.2, 1, 2),
        pauses=some(Family.PROCESS, "pauses", 0.25, 1, 3),
        ambushes=some(Family.AMBUSH, "ambushes", 0.6, 1, 3, 6),
        partitions=some(Family.NETWORK, "partitions", 0.45, 1, 2, 5),
        restart_loops=some(Family.PROCESS, "restart loops", 0.12, 1, 2),
        slow_nodes=some(Family.PROCESS, "slow nodes", 0.12, 1, 3),
        hand_overs=some(Family.PROCESS, "hand-overs", 0.12, 1, 3) if replicas > 1 else 0,
        # One of three that computes wrongly and one that is gone leave nobody to tell which of two is right.
        wipes=some(Family.PROCESS, "wipes", 0.08, 1) if replicas > (4 if flips else 2) else 0,
        minimal_quorums=some(Family.ADVERSARY, "minimal quorums", 0.15, 2, 1, 4),
        ancient_messages=some(Family.ADVERSARY, "ancient messages", 0.15, 1),
        old_positions=some(Family.ADVERSARY, "old positions", 0.15, 1, 3) if replicas > 1 else 0,
        last_restarts=some(Family.PROCESS, "last restart", 0.3, 1),
        rotten_witnesses=some(Family.DISK, "rotten witnesses", 0.4, 2, 1, 4) if disks.decaying else 0,
        unproven_checkpoints=some(Family.DISK, "unproven checkpoints", 0.5, 3, 1, 6) if disks.decaying else 0,
        client_crashes=some(Family.CLIENT, "client crashes", 0.15, 1, 3),
        client_returns=some(Family.CLIENT, "client returns", 0.12, 6, 3, 12),
        odd_requests=some(Family.CLIENT, "odd requests", 0.1, 3, 1),
        clock_jumps=some(Family.CLOCK, "clock jumps", 0.15, 1, 3),
        clock_drifts=some(Family.CLOCK, "clock drifts", 0.1, 1, 2),
        clock_freezes=some(Family.CLOCK, "clock freezes", 0.1, 1, 2),
        clogs=some(Family.NETWORK, "clogs", 0.15, 2, 1, 5),
        swizzles=some(Family.NETWORK, "swizzles", 0.1, 1, 2),
        resets=some(Family.NETWORK, "resets", 0.15, 4, 1, 10),
        down_mean=draw.one_of("down", 100, 1, 600) * MS // hurry,
        pause_mean=draw.one_of("pause", 100, 700) * MS // hurry,
        partition_mean=draw.one_of("partition", 500, 1200) * MS // hurry,
        clog_mean=draw.one_of("clog", 300, 100, 1500) * MS // hurry,
        process_share=draw.one_of("process share", 50, 0, 100) / 100,
        flips=flips,
        disks=disks,
    )


def draw_beyond(choices: Choices) -> Shape:
    """Return circumstances beyond the fault model: any disk decays in any place, and any number of them is ruined."""
    shape = draw_shape(choices, FAMILIES["beyond"])
    draw = _Draw(choices)
    replicas = shape.replicas
    disks = attrs.evolve(
        shape.faults.disks,
        decaying=draw.one_of("decaying beyond", 0, 1, replicas),
        rots=draw.one_of("rots beyond", 2, 0, 8),
        unreadable=draw.one_of("unreadable beyond", 2, 0, 8),
        misdirected=draw.one_of("misdirected beyond", 0, 0, 6),
        lost_writes=draw.one_of("lost writes beyond", 0, 0, 6),
        short_writes=draw.one_of("short writes beyond", 0, 0, 6),
        stale_reads=draw.one_of("stale reads beyond", 0, 0, 6),
        lost_files=draw.one_of("lost files beyond", 1, 0, 3),
        old_copies=draw.one_of("old copies beyond", 0, 0, 4),
        ruins=draw.one_of("ruins", 1, 0, 2, 4),
        # What is forgotten nobody can know: few runs, or little would be demanded of most of them.
        forgotten_flushes=draw.one_of("forgotten flushes", 1, 3) if draw.exists("flushes forgotten", 0.1) else 0,
    )
    if replicas > 2 and draw.exists("betrayals exist", 0.15):
        # With little else that is damaged, or those who are betrayed do not live to tell.
        disks = attrs.evolve(disks, betrayals=draw.one_of("betrayals", 2, 4), ruins=0, decaying=0)
    flips = int(draw.exists("flip beyond", 0.2))
    plan = shape.faults
    if disks.forgotten_flushes:  # It shows at a power cut.
        plan = attrs.evolve(plan, crashes=draw.one_of("crashes beyond", 8, 4), process_share=0.0)
    faults = attrs.evolve(
        plan,
        is_beyond=True,
        core_share=0.0,
        disks=disks,
        flips=flips,
        wipes=draw.one_of("wipes beyond", 1, 2, 4) if draw.exists("wipes exist beyond", 0.25) else 0,
    )
    workload = attrs.evolve(shape.workload, scans=0.0, keys=0.0) if flips else shape.workload
    return attrs.evolve(shape, faults=faults, workload=workload)


DEFAULT_PROFILE = "all"
# What may happen in each profile. Disks that forget need power cuts, and clocks that are wrong need primaries
# that follow one another.
FAMILIES: Mapping[str, frozenset[Family]] = MappingProxyType(
    {
        DEFAULT_PROFILE: EVERYTHING,
        "network": frozenset({Family.NETWORK, Family.CLIENT, Family.MEMORY}),
        "storage": frozenset({Family.DISK, Family.PROCESS, Family.MEMORY}),
        "crash": frozenset({Family.PROCESS, Family.ADVERSARY}),
        "clock": frozenset({Family.CLOCK, Family.PROCESS}),
        "ambush": frozenset({Family.AMBUSH}),
        "beyond": frozenset({Family.DISK, Family.PROCESS, Family.MEMORY, Family.NETWORK, Family.CLIENT}),
        "calm": frozenset(),
    }
)
PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        **{name: partial(draw_shape, families=families) for name, families in FAMILIES.items()},
        "ambush": draw_ambushed,
        "beyond": draw_beyond,
        "calm": draw_calm,
    }
)
