"""The fixed circumstances of one run: sizes, limits, timers, speeds, workload and kinds of faults."""

from __future__ import annotations

import attrs

from sim.network import NetworkFaults
from sim.orders import ORDERS
from sim.subject import Subject
from trio_pb.core.client_ports import ClientOptions
from trio_pb.core.config import Limits, Options, Timeouts

__all__ = ["DiskFaultPlan", "DiskSpeed", "FaultPlan", "Shape", "WorkloadPlan", "address_of"]


@attrs.frozen(kw_only=True)
class DiskSpeed:
    """Latencies of the disks, in microseconds."""

    step_min: int = 20
    step_mean: int = 30
    flush_min: int = 100
    flush_mean: int = 300


@attrs.frozen(kw_only=True)
class WorkloadPlan:
    """What the clients do."""

    operations: int = 0  # Per client.
    in_flight: int = 1  # Operations of one client at once.
    think_mean: int = 20_000  # Microseconds between the end of one and the start of the next, or between two starts.
    is_open: bool = False  # Operations come at their times, however many are under way.
    customers: int = 4  # Shared by all clients when `shared`, else this many each.
    shared: bool = False
    reads: float = 0.2
    reads_here: float = 0.0  # Share of the reads that any replica may answer.
    scans: float = 0.02
    overwrites: float = 0.0
    keys: float = 0.0  # Orders with an idempotency key.
    deadline_ms: int = 600_000


@attrs.frozen(kw_only=True)
class DiskFaultPlan:
    """Which disks decay or fail, and how often; times in microseconds."""

    decaying: int = 0  # Replicas whose disks lose or change what was flushed: at most a minority.
    rots: int = 0
    unreadable: int = 0
    misdirected: int = 0
    lost_writes: int = 0
    short_writes: int = 0
    stale_reads: int = 0  # Writes after which their sectors show for a while what they held before.
    lost_files: int = 0
    old_copies: int = 0  # Of the superblock: one copy goes back to what it was.
    bit_flips: int = 0  # In one page, of the newest proof above all; all else that the page says stays right.
    ruins: int = 0  # Of all copies of something, at one replica, at most of them or at all; beyond the model only.
    betrayals: int = 0  # Of a primary, by all who acknowledged what it commits; beyond the model only.
    forgotten_flushes: int = 0  # Times at which a disk reports flushes that it does not make; beyond the model only.
    io_errors: int = 0  # These and the following befall any replica, and damage nothing.
    full_disks: int = 0
    stalls: int = 0
    dead_disks: int = 0  # Of a primary, for longer than it may lead with one that does not get on (T_DISK).
    full_mean: int = 500_000
    stall_mean: int = 500_000


@attrs.frozen(kw_only=True)
class FaultPlan:
    """Which faults exist in a run; times in microseconds, counts over the whole fault phase."""

    duration: int = 0
    settling: int | None = None  # After so long no view may change any more (INV-34); the run lasts `duration`.
    isolations: int = 0  # Of one replica, after the settling, to the end.
    core_share: float = 0.0  # Chance that a view change quorum is healed before the others, and must do without them.
    follow_work: bool = False  # Faults come when so many operations have ended, not at a time.
    crashes: int = 0
    power_cuts: int = 0  # Of all machines at once.
    pauses: int = 0
    restart_loops: int = 0  # Of one replica that dies again and again while it starts.
    slow_nodes: int = 0  # Replicas that take their turns late.
    hand_overs: int = 0  # Primaries that are asked to let another lead.
    wipes: int = 0  # Disks that are lost and formatted anew under the old id; one per run.
    partitions: int = 0
    clogs: int = 0  # Of the links of one replica, which are free again later.
    swizzles: int = 0  # Clogs of several replicas, one after the other.
    resets: int = 0  # Of connections, with what is on its way.
    ambushes: int = 0  # Scripts aimed at the primary.
    flips: int = 0  # Of memory, so that a replica's state diverges; one per run.
    clock_jumps: int = 0  # Of wall clocks, forward or back.
    clock_drifts: int = 0
    clock_freezes: int = 0
    minimal_quorums: int = 0  # Times in which a prepare reaches a bare quorum in time.
    ancient_messages: int = 0  # From then on, what was said in older views is heard again when a view begins.
    old_positions: int = 0  # Times in which a backup that restarted hears what its last boot was told for a read.
    last_restarts: int = 0  # Replicas that restart after everything healed, when nobody asks for anything.
    rotten_witnesses: int = 0  # Times in which the one backup that holds an op beside its primary loses it.
    unproven_checkpoints: int = 0  # Of a disk that decays, lost when nothing else says how far it was durable.
    client_crashes: int = 0
    client_returns: int = 0  # Of one client that knows its session of before.
    odd_requests: int = 0  # Of one client that talks nonsense.
    down_mean: int = 300_000
    pause_mean: int = 400_000
    partition_mean: int = 700_000
    clog_mean: int = 300_000
    is_beyond: bool = False  # Beyond the fault model: nothing is kept intact, and nothing is owed but honesty.
    process_share: float = 0.5  # Crashes that kill the process only, so that the page cache survives.
    disks: DiskFaultPlan = attrs.field(factory=DiskFaultPlan)

    @property
    def sets_clocks(self) -> bool:
        """Whether any wall clock goes wrong."""
        return bool(self.clock_jumps or self.clock_drifts or self.clock_freezes)

    @property
    def troubles_links(self) -> bool:
        """Whether links clog, or connections are reset."""
        return bool(self.clogs or self.swizzles or self.resets)


@attrs.frozen(kw_only=True)
class Shape:
    """Everything that a run draws before it starts."""

    replicas: int = 3
    clients: int = 1
    limits: Limits = attrs.field(factory=Limits)
    timeouts: Timeouts = attrs.field(factory=Timeouts)
    client_options: ClientOptions = attrs.field(factory=ClientOptions)  # Cluster and seed are added.
    network: NetworkFaults = attrs.field(factory=NetworkFaults)
    disk: DiskSpeed = attrs.field(factory=DiskSpeed)
    subject: Subject = ORDERS  # The machine, and what is asked of it.
    workload: WorkloadPlan = attrs.field(factory=WorkloadPlan)
    faults: FaultPlan = attrs.field(factory=FaultPlan)
    codec: bool = False  # Messages travel as bytes.
    record: bool = False  # Record every input and replay the cores at the end (INV-32).
    turn_delay: int = 0  # Microseconds that a replica lets inputs gather before it takes a step.
    tick_drift_percent: int = 0  # By so much the ticks of one replica are longer than those of the others.
    clock_spread_ms: int = 0  # Wall clocks differ by up to this much, either way.
    segment_size: int = 64 * 1024
    slice_bytes: int = 64 * 1024  # Of a checkpoint, encoded between two turns.
    mixed_releases: bool = False  # Each boot of a replica is of one of two releases.

    def options(self, seed: int, *, newer: bool = False) -> Options:
        """What each replica is told; `newer`: those of the later release, which still speaks as the earlier one does.

        It has other timers, as a later release may. Limits are a cluster's and stay (PROTOCOL 11).
        """
        addresses = tuple((replica, address_of(replica)) for replica in range(self.replicas))
        told = Options(limits=self.limits, timeouts=self.timeouts, seed=seed, addresses=addresses)
        if not newer:
            return told
        timeouts = attrs.evolve(
            self.timeouts,
            suspect_ticks=self.timeouts.suspect_ticks * 5 // 4,
            check_quorum_ticks=self.timeouts.check_quorum_ticks * 5 // 4,
            view_change_ticks=self.timeouts.view_change_ticks * 3 // 2,
            repair_ticks=self.timeouts.repair_ticks * 2,
        )
        return attrs.evolve(told, timeouts=timeouts, release=told.release + 1)


def address_of(replica: int) -> str:
    """The advertised address of a simulated replica."""
    return f"replica-{replica}:7400"
