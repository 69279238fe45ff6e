"""The swarm: each seed draws the shape of its world and a few kinds of faults, then they happen.

A run in which everything fails at once finds less than many runs in which two or three things fail a
lot: so each kind of fault exists in a fair share of the seeds only, and its strength is drawn as well.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from sim.ambushes import Ambushes
from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.disk_faults import DiskFaults
from sim.network import CLIENT_NODES, NetworkFaults
from sim.replica import SimReplica
from sim.shape import DiskFaultPlan, DiskSpeed, FaultPlan, Shape, WorkloadPlan
from trio_pb.core.client_ports import ClientOptions
from trio_pb.core.config import Limits, Timeouts

__all__ = ["FaultInjector", "draw_ambushed", "draw_shape"]

MS = 1000  # Microseconds.
# Ticks between two slices of scrubbing: in haste where there is something to find.
SCRUBS = ((100, 20), (4, 2, 20))
AMBUSHED_SHARE = 0.2  # Of the seeds; they meet most of the truncations.
OPENING_CRASHES = 0.15  # Of the restarts.
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


class FaultInjector:
    """Makes the planned faults happen, and heals."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.fired = 0
        self.is_healed = False
        self._choices = cluster.choices
        for replica in cluster.replicas:
            replica.on_crash = self._restart_later
        self._crashes = 0
        self._ambushes = Ambushes(cluster, self._note, lambda: self.is_healed)
        self._disks = DiskFaults(cluster, self._note, lambda: self.is_healed)
        # (operations ended, number, act, its index), the next one last.
        self._waiting: list[tuple[int, int, Callable[[int], None], int]] = []
        cluster.history.on_end = self._follow_work

    def schedule(self) -> None:
        """Put every fault of the plan on the clock."""
        plan = self.cluster.shape.faults
        work = self.cluster.shape.workload.operations * self.cluster.shape.clients
        for label, count, act in (
            ("crash", plan.crashes, self._crash),
            ("power cut", plan.power_cuts, self._cut_power),
            ("pause", plan.pauses, self._pause),
            ("partition", plan.partitions, self._partition),
            ("ambush", plan.ambushes, self._ambushes.spring),
            ("flip", plan.flips, self._flip),
            *self._disks.plan(),
        ):
            for index in range(count):
                # A replayed run may leave out any one of them.
                if not self._choices.flag((label, index), 1.0):
                    continue
                if plan.follow_work:
                    ended = self._choices.number((label, index, "ended"), 0, work - 1, work // 2)
                    self._waiting.append((ended, len(self._waiting), act, index))
                else:
                    at = self._choices.number((label, index, "at"), 0, plan.duration, plan.duration // 2)
                    self.cluster.scheduler.at(at, act, index)
        self._waiting.sort(key=lambda waiting: waiting[:2], reverse=True)

    def _follow_work(self) -> None:
        """An operation ended: do what was to happen about now."""
        while self._waiting and self._waiting[-1][0] <= self.cluster.history.ended:
            ended, number, act, index = self._waiting.pop()
            delay = self._choices.latency(("follow", ended, number), 0, 10 * MS)
            self.cluster.scheduler.after(delay, act, index)

    def heal(self) -> None:
        """End every fault: from now on everybody runs and everything arrives."""
        self.is_healed = True
        self.cluster.network.heal()
        self._disks.heal()
        for replica in self.cluster.replicas:
            replica.plan_crash(power=False, after_outputs=None, after_steps=None)
            if replica.is_paused:
                replica.resume()
            self._restart(replica)

    # --- Crashes ------------------------------------------------------------------------------

    def _crash(self, index: int) -> None:
        """Kill one replica: at once, inside a turn, or inside the disk's work."""
        replica = self._victim(("crash", index, "who"))
        if not replica.is_up or self.is_healed:
            return
        plan = self.cluster.shape.faults
        choices = self._choices
        power = not choices.flag(("crash", index, "process only"), plan.process_share)
        where = choices.number(("crash", index, "where"), 0, 2, 0)
        self._note("crash planned")
        if where == 0:
            replica.crash(power=power)
        elif where == 1:
            after = choices.number(("crash", index, "outputs"), 0, 12, 0)
            replica.plan_crash(power=power, after_outputs=after, after_steps=None)
        else:
            after = choices.number(("crash", index, "steps"), 0, 12, 0)
            replica.plan_crash(power=power, after_outputs=None, after_steps=after)

    def _cut_power(self, _: int) -> None:
        """All machines at once."""
        if not self.is_healed:
            self._note("power cut")
            for replica in self.cluster.replicas:
                replica.crash(power=True)

    def _restart_later(self, replica: SimReplica, power: bool) -> None:
        self._crashes += 1
        mean = self.cluster.shape.faults.down_mean
        delay = self._choices.latency(("down", self._crashes, replica.number, power), 1, mean)
        self.cluster.scheduler.after(delay, self._restart, replica)

    def _restart(self, replica: SimReplica) -> None:
        if replica.is_up or replica.is_stopped:
            return
        if not self.is_healed and self._choices.flag(("opening", self._crashes), OPENING_CRASHES):
            # Twice in a row, the second time while the disk is being put in order (T-35).
            steps = self._choices.number(("opening", self._crashes, "steps"), 0, 60, 0)
            replica.plan_crash(power=True, after_outputs=None, after_steps=steps)
        replica.start()

    def _pause(self, index: int) -> None:
        replica = self._victim(("pause", index, "who"))
        if replica.is_up and not self.is_healed:
            self._note("pause")
            replica.pause()
            duration = self._choices.latency(("pause", index, "long"), 10 * MS, self.cluster.shape.faults.pause_mean)
            self.cluster.scheduler.after(duration, replica.resume)

    def _flip(self, index: int) -> None:
        """The memory of one replica goes wrong, once in a run."""
        replica = self._victim(("flip", index, "who"))
        if replica.core is not None and not self.is_healed:
            self._note("flip")
            replica.flip()

    def _victim(self, key: Key) -> SimReplica:
        """A replica; in half of the cases the primary, if there is one."""
        replicas = self.cluster.replicas
        chosen = self._choices.number(key, 0, 2 * len(replicas) - 1, 0)
        if chosen >= len(replicas):
            for replica in replicas:
                if replica.is_primary:
                    return replica
        return replicas[chosen % len(replicas)]

    # --- Partitions ---------------------------------------------------------------------------

    def _partition(self, index: int) -> None:
        """Cut the network in one of several shapes; mend it later."""
        if self.is_healed:
            return
        network = self.cluster.network
        before = set(network.blocked)
        key: Key = ("partition", index)
        numbers = [replica.number for replica in self.cluster.replicas]
        victim = self._victim((*key, "who")).number
        others = [number for number in numbers if number != victim]
        shape = self._choices.number((*key, "shape"), 0, 6, 0)
        one_way = self._choices.flag((*key, "one way"), 0.3)
        if shape == 0:  # One against the rest.
            network.block([victim], others, one_way=one_way)
        elif shape == 1:  # The same, other direction if one way.
            network.block(others, [victim], one_way=one_way)
        elif shape == 2:  # Two sides.
            sides = self._choices.number((*key, "sides"), 0, (1 << len(numbers)) - 1, 1)
            left = [number for number in numbers if sides >> number & 1]
            network.block(left, [number for number in numbers if number not in left], one_way=one_way)
        elif shape == 3:  # Only through a hub: no two others hear each other.
            network.block(others, others)
        elif shape == 4:  # One link.
            network.block([victim], others[:1], one_way=one_way)
        elif shape == 5:  # Any directed links.
            links = self._choices.bits((*key, "links"))
            for position, (source, destination) in enumerate((s, d) for s in numbers for d in numbers if s != d):
                if links >> position & 1:
                    network.block([source], [destination], one_way=True)
        else:  # Clients cannot reach one replica.
            network.block([client.node for client in self.cluster.clients], [victim], one_way=one_way)
        assert all(min(link) < CLIENT_NODES for link in network.blocked)
        self._note("partition")
        made = network.blocked - before
        duration = self._choices.latency((*key, "long"), 50 * MS, self.cluster.shape.faults.partition_mean)
        self.cluster.scheduler.after(duration, network.blocked.difference_update, made)

    def _note(self, fault: str) -> None:
        self.fired += 1
        self.cluster.count(fault)
        self.cluster.trace(fault)
