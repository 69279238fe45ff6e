"""A whole cluster in one object: replicas, disks, network, clients, oracles, one virtual clock."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import TypeVar

from sim.choices import Choices
from sim.client import SimClient
from sim.disk import FakeDisk
from sim.network import CLIENT_NODES, Payload
from sim.oracles import client_promises, equal_states, invariants, promises, read_promises, votes
from sim.oracles.facts import Facts, violate
from sim.oracles.reference import ExecutedOnce
from sim.oracles.sane_time import SaneTime
from sim.oracles.stability import HeardIsNotSilent, LeadsWithALiveDisk, Stable
from sim.oracles.survival import AnsweredSurvives
from sim.oracles.traffic import AsksAround, NoCopyStorm
from sim.oracles.watch import Oracle
from sim.replica import SimReplica
from sim.scheduler import TICK_US, Scheduler
from sim.shape import Shape, address_of
from sim.telling import PLAIN, take_teller
from sim.wall_clock import WallClock
from trio_pb.core.durable import Scan, Superblock
from trio_pb.core.messages import ClientMessage
from trio_pb.core.replica import Replica
from trio_pb.errors import DataDirectoryError, StorageError
from trio_pb.storage.disk import run
from trio_pb.storage.store import Store, format_directory

__all__ = ["SimCluster", "all_oracles"]

AnyClient = TypeVar("AnyClient", bound=SimClient)

TRACE_KEPT = 4000  # Newest events kept for a failure's story.


def all_oracles(facts: Facts, shape: Shape, executed: ExecutedOnce) -> list[Oracle]:
    """Every check that runs in every simulation; `executed` keeps the model that others look at."""
    return [
        invariants.AgreementOnApply(facts),
        invariants.OnePreparePerOp(facts),
        invariants.ViewsNeverFall(facts),
        invariants.OnePrimaryPerView(facts),
        invariants.OneInstallPerView(facts),
        invariants.LogsOfOneViewAgree(facts),
        invariants.AppliedBelowCommit(facts),
        invariants.PipelineBound(facts, shape.limits),
        invariants.ChainedHeaders(facts),
        invariants.OneRelease(facts),
        invariants.RisingTimestamps(facts),
        equal_states.EqualStates(facts),
        invariants.EligibleVoters(facts),
        invariants.Bounds(facts, shape.limits),
        equal_states.CheckpointsAgree(facts),
        equal_states.WrongStateIsKnown(facts),
        invariants.CrashesLeaveNoFault(facts),
        invariants.RepliesAreCommitted(facts),
        AnsweredSurvives(facts),
        promises.AcknowledgedIsDurable(facts),
        promises.ViewPromisesKept(facts),
        promises.CommittedIsHeldByQuorum(facts),
        promises.NewLogKeepsCommitted(facts),
        promises.DenialsAreTrue(facts),
        promises.DurableStays(facts),
        promises.FoundWasWritten(facts),
        promises.WatermarkStays(facts),
        promises.EntriesOfTheirView(facts),
        promises.CheckpointsOfTheirView(facts),
        promises.NewestLogWins(facts),
        promises.RequirementsHold(facts),
        votes.AmnesiacsDoNotVote(facts),
        votes.ViewsHaveQuorums(facts),
        read_promises.ReadsAreFresh(facts),
        read_promises.ReadsAreConfirmed(facts),
        read_promises.PositionsAreOwn(facts),
        client_promises.StrangersAreConfirmed(facts),
        client_promises.RefusalsAreCertain(facts),
        client_promises.CheckpointsKeepReplies(facts, shape.limits.session_window),
        HeardIsNotSilent(facts, shape.timeouts),
        LeadsWithALiveDisk(facts, shape.timeouts),
        NoCopyStorm(facts),
        AsksAround(facts),
        executed,
    ]


class SimCluster:
    """The world that replicas and clients live in."""

    def __init__(self, choices: Choices, shape: Shape) -> None:
        self.choices = choices
        self.seed = choices.seed
        self.shape = shape
        self.scheduler = Scheduler()
        teller = take_teller()
        self._parts = PLAIN if teller is None else teller.parts(self)  # They listen in a run that is told of.
        self.history = self._parts.history()
        self.counts: Counter[str] = Counter()
        self.events: list[tuple[object, ...]] = []  # The newest, for people.
        self.cluster_id = self._bytes16("cluster")
        self._digest = 0
        self._connections: Counter[tuple[int, int]] = Counter()  # Made so far, by client and replica.
        self._replicas_by_address = {address_of(number): number for number in range(shape.replicas)}
        self.network = self._parts.network(
            choices,
            self.scheduler,
            shape.network,
            cluster=self.cluster_id,
            codec=shape.codec,
            arrive=self._arrive,
            broken=self._stream_broken,
            late=self._arrive_late,
            troubled=shape.faults.troubles_links,
        )
        disks = [self._formatted_disk(number) for number in range(shape.replicas)]
        images = [run(disk.remains(), Store(segment_size=shape.segment_size).look()).superblock for disk in disks]
        facts = Facts(self.cluster_id, images)
        for number in facts.disks:
            facts.disks[number].examine = partial(self._examine, number)
        self.executed = ExecutedOnce(facts, shape.limits.sessions_max, shape.subject)
        self.stable = Stable(facts)
        self.sane_time = SaneTime(facts)
        self.sane_time.clock_of = lambda number: self.replicas[number].clock.read(self.scheduler.now)
        special: list[Oracle] = [] if shape.faults.settling is None else [self.stable]
        if shape.faults.sets_clocks:
            special.append(self.sane_time)
        oracles = all_oracles(facts, shape, self.executed) + special
        self.watch = self._parts.watch(facts, oracles, is_beyond=shape.faults.is_beyond)
        options = shape.options(self.seed)
        self.replicas = [SimReplica(self, number, disk, options) for number, disk in enumerate(disks)]
        spread = shape.clock_spread_ms
        for replica in self.replicas:
            bits = choices.bits(("wall clock", replica.number))
            replica.clock = WallClock((bits % (2 * spread + 1) - spread) * 1_000_000 if spread else 0)
        if shape.tick_drift_percent:
            slow = self.replicas[choices.number(("tick drift", "who"), 0, shape.replicas - 1, 0)]
            slow.tick_us += TICK_US * shape.tick_drift_percent // 100
        self.clients: list[SimClient] = []
        for _ in range(shape.clients):
            self.add_client()

    def start(self) -> None:
        """Start every replica."""
        for replica in self.replicas:
            replica.start()

    def add_client(self) -> SimClient:
        """One more client, which knows the address of every replica."""
        return self.add_client_of(SimClient)

    def add_client_of(self, kind: type[AnyClient]) -> AnyClient:
        """One more client of some kind."""
        index = len(self.clients)
        addresses = tuple(address_of(number) for number in range(self.shape.replicas))
        client = kind(self, CLIENT_NODES + index, f"C{index}", addresses)
        self.clients.append(client)
        return client

    def wipe(self, replica: SimReplica) -> None:
        """Give a dead replica an empty disk, formatted under its old id."""
        disk = self._formatted_disk(replica.number, "anew")
        replica.wipe(disk)
        image = run(disk.after_power_cut(), Store(segment_size=self.shape.segment_size).open()).superblock
        self.facts.wipe(replica.number, image)

    # --- Facts of this world ----------------------------------------------------------------------

    @property
    def facts(self) -> Facts:
        """What the oracles know."""
        return self.watch.facts

    @property
    def nodes(self) -> list[int]:
        """Every node of the network."""
        return [replica.number for replica in self.replicas] + [client.node for client in self.clients]

    @property
    def trace_digest(self) -> int:
        """A checksum over every event so far: equal for equal runs."""
        return self._digest

    def trace(self, *event: object) -> None:
        """Note an event (`World`)."""
        entry = (self.scheduler.now, *event)
        self._digest = zlib.crc32(repr(entry).encode(), self._digest)
        if self._parts.traced is not None:
            self._parts.traced(event)
        events = self.events
        events.append(entry)
        if len(events) > 2 * TRACE_KEPT:
            del events[:TRACE_KEPT]

    def count(self, event: str) -> None:
        """Count an event (`World`)."""
        self.counts[event] += 1

    def run_until(self, condition: Callable[[], bool], limit: int) -> bool:
        """Let time pass until `condition` holds, looked at every tick, at most up to `limit`."""
        scheduler = self.scheduler
        while not condition():
            if scheduler.now >= limit:
                return False
            scheduler.run_until(min(limit, scheduler.now + TICK_US))
        return True

    def replay_recorded(self) -> None:
        """Run every recorded boot through a fresh core (INV-32).

        Raises:
            Violation: an output differs.
        """
        for replica in self.replicas:
            for boot, (options, steps) in enumerate(replica.recorded):
                core = Replica(options)
                for index, step in enumerate(steps):
                    outputs = tuple(core.step(step.now_tick, list(step.inputs)))
                    if outputs != step.outputs:
                        violate(
                            "INV-32", f"{replica.name}: step {index} of boot {boot} gives other outputs when replayed"
                        )

    # --- Streams (`ClientWorld`) --------------------------------------------------------------------

    def next_connection(self, client: int, replica: int) -> int:
        """A number that no connection had before, the same whatever others connect (`ClientWorld`)."""
        self._connections[client, replica] += 1
        return self._connections[client, replica] << 24 | (client - CLIENT_NODES) << 12 | replica

    def replica_at(self, address: str) -> int:
        """Which replica listens at an address."""
        return self._replicas_by_address[address]

    def open_stream(self, client: int, replica: int, connection: int) -> None:
        """A client asks for a connection; the answer takes a round trip, or never comes."""
        self.scheduler.after(self._handshake(connection), self._accept, client, replica, connection)

    def close_stream(self, client: int, replica: int, connection: int) -> None:
        """A client closed a connection."""
        self.scheduler.after(self._handshake(connection), self._closed, client, replica, connection)

    def end_stream(self, replica: int, client: int, connection: int) -> None:
        """A replica's end is gone."""
        self.scheduler.after(self._handshake(connection), self._reset, replica, client, connection)

    def reset(self, replica: int, other: int) -> None:
        """End every connection between a replica and another node: what is on its way is lost."""
        if self.network.links is not None:
            self.network.links.reset(replica, other)
        if other >= CLIENT_NODES:
            held = self.replicas[replica].connections
            for connection in [connection for connection, client in held.items() if client == other]:
                self._stream_broken(other, replica, connection)

    def _handshake(self, connection: int) -> int:
        faults = self.network.faults
        return self.choices.latency(("handshake", connection), faults.latency_min, faults.latency_mean)

    def _accept(self, client: int, replica: int, connection: int) -> None:
        if self._cut(client, replica):
            return  # The client will run out of patience.
        target = self.replicas[replica]
        if target.core is None:
            self._reset(replica, client, connection)
            return
        target.connections[connection] = client
        self.scheduler.after(self._handshake(-connection), self._client(client).connected, connection)

    def _closed(self, client: int, replica: int, connection: int) -> None:
        if not self._cut(client, replica):
            self.replicas[replica].lose_connection(connection)

    def _reset(self, replica: int, client: int, connection: int) -> None:
        if not self._cut(client, replica):
            self._client(client).disconnected(connection)

    def _cut(self, client: int, replica: int) -> bool:
        blocked = self.network.blocked
        return (client, replica) in blocked or (replica, client) in blocked

    def _stream_broken(self, source: int, destination: int, connection: int) -> None:
        client, replica = (source, destination) if source >= CLIENT_NODES else (destination, source)
        self.replicas[replica].lose_connection(connection)
        self._client(client).disconnected(connection)

    def _arrive_late(self, destination: int, payload: Payload) -> None:
        """A frame of a connection that its client gave up already: nobody is there to hear the answer."""
        replica = self.replicas[destination]
        message = payload.message
        if replica.core is not None and isinstance(message, ClientMessage):
            replica.hear_client(payload.connection, message)

    # --- Deliveries ---------------------------------------------------------------------------------

    def _arrive(self, source: int, destination: int, payload: Payload) -> None:
        message = payload.message
        self._digest = zlib.crc32(b"%d %d %d" % (self.scheduler.now, source, destination), self._digest)
        if self._parts.arrived is not None:
            self._parts.arrived(source, destination, payload)
        if destination >= CLIENT_NODES:
            self._client(destination).hear(payload)
            return
        replica = self.replicas[destination]
        if source < CLIENT_NODES:
            replica.hear_peer(payload)
        elif payload.connection in replica.connections:
            # Streams from clients carry client messages only.
            assert isinstance(message, ClientMessage)
            replica.hear_client(payload.connection, message)
        elif replica.is_up:
            self._reset(destination, source, payload.connection)  # A connection of an earlier life.

    def _client(self, node: int) -> SimClient:
        return self.clients[node - CLIENT_NODES]

    # --- Making -----------------------------------------------------------------------------------

    def _bytes16(self, *what: str | int) -> bytes:
        return blake2b(repr((self.seed, *what)).encode(), digest_size=16).digest()

    def _examine(self, number: int) -> tuple[Superblock, Scan] | None:
        """What opening a replica's disk would find after a power cut now; None when it would not open."""
        try:
            start = run(self.replicas[number].disk.remains(), Store(segment_size=self.shape.segment_size).look())
        except (StorageError, DataDirectoryError):
            return None
        return start.superblock, start.scan

    def _formatted_disk(self, number: int, *when: str) -> FakeDisk:
        disk = self._parts.disk(number, self.choices)
        job = format_directory(
            cluster=self.cluster_id,
            replica=number,
            incarnation=self._bytes16("incarnation", number, *when),
            voters=tuple(range(self.shape.replicas)),
            segment_size=self.shape.segment_size,
        )
        run(disk, job)
        return disk
