"""A network that loses, delays, reorders, repeats, corrupts and partitions.

Nodes are numbers: replicas by their id, clients from `CLIENT_NODES` on. Links are directed, so that any
shape of partition is a set of blocked (source, destination) pairs. What happens to a message is drawn by
its content and by how often the same content was sent on the same link before: a message that stays
the same has the same fate, whatever is added to or removed from the run around it.

Peer messages arrive in any order. Client connections are streams: frames arrive in order, once, until
something is lost; then the connection breaks, and both ends hear of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import attrs

from sim.choices import ROLL_BITS, Choices, Key, latency_of
from sim.links import Links
from sim.oracles.facts import violate
from sim.scheduler import Scheduler
from trio_pb.codec.frames import FrameReader
from trio_pb.codec.wire import decode, encode_client, encode_peer, encode_server
from trio_pb.core.messages import ClientMessage, Envelope, PeerMessage, ServerMessage
from trio_pb.errors import RemoteProtocolError

__all__ = ["CLIENT_NODES", "DropRule", "Network", "NetworkFaults", "Payload"]

CLIENT_NODES = 2048  # Above every replica id.

AnyMessage: TypeAlias = "PeerMessage | ClientMessage | ServerMessage"


@attrs.frozen(kw_only=True)
class NetworkFaults:
    """How bad the network is: probabilities per message, times in microseconds."""

    latency_min: int = 200
    latency_mean: int = 500
    loss: float = 0.0
    duplication: float = 0.0
    spike: float = 0.0  # Messages that take up to `spike_max` longer, and so arrive late and out of order.
    spike_max: int = 1_000_000
    lateness: float = 0.0  # Of the frames with which a client connection breaks: they arrive after all, up to
    # `spike_max` later, when the client has given up the connection.
    corruption: float = 0.0  # Frames of which some bytes change on the way; only where bytes are sent.
    bytes_per_second: int = 0  # What one link carries; 0: as much as is sent.
    queue_bytes: int = 0  # What waits for a narrow link; more is dropped.

    def healed(self) -> NetworkFaults:
        """The same latencies without faults."""
        return attrs.evolve(
            self, loss=0.0, duplication=0.0, spike=0.0, lateness=0.0, corruption=0.0, bytes_per_second=0
        )


class Payload:
    """What travels: a message, with the envelope that peers put around it or the connection it is on."""

    __slots__ = ("connection", "envelope", "message")

    def __init__(self, message: AnyMessage, envelope: Envelope | None, connection: int) -> None:
        self.message = message
        self.envelope = envelope
        self.connection = connection


@attrs.frozen(kw_only=True)
class DropRule:
    """Drop what matches; None matches everything."""

    kind: str | None = None  # Class name of a message.
    source: int | None = None
    destination: int | None = None

    def matches(self, source: int, destination: int, kind: str) -> bool:
        """Whether a message of `kind` on this link is dropped."""
        return (
            (self.kind is None or self.kind == kind)
            and (self.source is None or self.source == source)
            and (self.destination is None or self.destination == destination)
        )


class Network:
    """Carries messages between nodes through virtual time."""

    def __init__(
        self,
        choices: Choices,
        scheduler: Scheduler,
        faults: NetworkFaults,
        *,
        cluster: bytes,
        codec: bool,
        arrive: Callable[[int, int, Payload], None],
        broken: Callable[[int, int, int], None],
        late: Callable[[int, Payload], None] | None = None,
        troubled: bool = False,
    ) -> None:
        """`arrive(source, destination, payload)` takes deliveries, `broken(source, destination, connection)` the news
        that a client connection was lost, `late(destination, payload)` what a client sent on a connection that it
        has given up; `codec` sends bytes, not objects; `troubled` links may clog and be reset.
        """  # noqa: D205
        self.faults = faults
        self.rules: list[DropRule] = []
        self.blocked: set[tuple[int, int]] = set()
        self.counts = {
            "sent": 0,
            "lost": 0,
            "duplicated": 0,
            "spiked": 0,
            "blocked": 0,
            "corrupted": 0,
            "cut short": 0,
            "late": 0,
            "repeated": 0,
        }
        self._choices = choices
        self._scheduler = scheduler
        self._cluster = cluster
        self._codec = codec
        self._arrive = arrive
        self._broken = broken
        self._late = late
        self._attempts: dict[Key, int] = {}
        self._stream_ends: dict[tuple[int, int, int], int] = {}  # Last arrival on a client stream.
        self._torn: set[int] = set()  # Connections that lost a frame in a partition.
        # Each is asked about every message between replicas: by how much it is to be late.
        self.taps: list[Callable[[int, int, Payload], int]] = []
        self.listeners: list[Callable[[int, int, Payload], None]] = []  # Hear what replicas send to one another.
        self.links: Links | None = None
        if troubled or faults.bytes_per_second:
            self.links = Links(
                scheduler,
                bytes_per_second=faults.bytes_per_second,
                queue_bytes=faults.queue_bytes,
                deliver=self._deliver,
                lost=self._cut_short,
            )

    # --- Partitions ---------------------------------------------------------------------------

    def block(self, sources: Iterable[int], destinations: Iterable[int], *, one_way: bool = False) -> None:
        """Let nothing pass from `sources` to `destinations`, nor back unless `one_way`."""
        targets = list(destinations)
        for source in sources:
            for destination in targets:
                if source != destination:
                    self.blocked.add((source, destination))
                    if not one_way:
                        self.blocked.add((destination, source))

    def unblock(self, sources: Iterable[int], destinations: Iterable[int]) -> None:
        """Undo `block`, both ways."""
        targets = list(destinations)
        for source in sources:
            for destination in targets:
                self.blocked.discard((source, destination))
                self.blocked.discard((destination, source))

    def heal(self) -> None:
        """No partition, rule, clog or fault any more."""
        self.blocked.clear()
        self.rules.clear()
        self.taps.clear()
        self.listeners.clear()
        self.faults = self.faults.healed()
        if self.links is not None:
            self.links.heal()

    # --- Messages -----------------------------------------------------------------------------

    def send(self, source: int, destination: int, payload: Payload) -> None:
        """Start a message between replicas on its way, or several, or none."""
        message = payload.message
        kind = type(message).__name__
        key = self._key_of(kind, source, destination, payload)
        self.counts["sent"] += 1
        if self._stopped(source, destination, kind):
            return
        faults = self.faults
        if self._codec:
            if faults.corruption and self._corrupts(key, payload):
                if self.links is not None:
                    self.links.reset(source, destination)  # The receiver gives up the connection.
                return
            payload = self._through_codec(payload)
        bits = self._choices.bits(key)
        if faults.loss and self._choices.flag_of(("lose", *key), bits, faults.loss):
            self.counts["lost"] += 1
            return
        delay = latency_of(bits, faults.latency_min, faults.latency_mean)
        if faults.spike and self._choices.flag_of(("spike", *key), bits >> ROLL_BITS, faults.spike):
            self.counts["spiked"] += 1
            delay += (bits >> 44) * faults.spike_max >> 20
        for tap in self.taps:
            delay += tap(source, destination, payload)
        for listener in self.listeners:
            listener(source, destination, payload)
        self._start(delay, source, destination, payload)
        if faults.duplication and self._choices.flag_of(("repeat", *key), bits >> 2 * ROLL_BITS, faults.duplication):
            self.counts["duplicated"] += 1
            later = self._choices.latency(("repeat latency", *key), delay, faults.spike_max // 4)
            self._start(later, source, destination, payload)

    def repeat(self, source: int, destination: int, payload: Payload) -> None:
        """Let a message arrive once more that was sent long ago."""
        self.counts["repeated"] += 1
        self._scheduler.after(0, self._deliver, source, destination, payload)

    def _start(self, delay: int, source: int, destination: int, payload: Payload) -> None:
        links = self.links
        if links is None:
            self._scheduler.after(delay, self._deliver, source, destination, payload)
            return
        wait = links.waits((source, destination), payload.message, may_drop=True)
        if wait is not None:
            links.start(self._scheduler.now + wait + delay, (source, destination), payload)

    def send_on_stream(self, source: int, destination: int, payload: Payload) -> None:
        """Start a frame of a client connection on its way; what is lost breaks the connection."""
        kind = type(payload.message).__name__
        key = self._key_of(kind, source, destination, payload)
        bits = self._choices.bits(key)
        faults = self.faults
        delay = latency_of(bits, faults.latency_min, faults.latency_mean)
        if self.links is not None:
            delay += self.links.waits((source, destination), payload.message, may_drop=False) or 0
        stream = (source, destination, payload.connection)
        arrival = max(self._scheduler.now + delay, self._stream_ends.get(stream, 0))
        self._stream_ends[stream] = arrival
        self.counts["sent"] += 1
        if self._stopped(source, destination, kind):
            self._torn.add(payload.connection)
            return  # Silence; a stream with a hole in it breaks when it is used again.
        is_broken = faults.loss > 0 and self._choices.flag_of(("break", *key), bits, faults.loss / 4)
        is_broken = is_broken or (self._codec and faults.corruption > 0 and self._corrupts(key, payload))
        if is_broken or payload.connection in self._torn:
            self._torn.discard(payload.connection)
            self.counts["lost"] += 1
            if faults.lateness and self._choices.flag(("late", *key), faults.lateness):
                self._be_late(arrival, key, destination, payload)
            else:
                self._cut_short(payload)
            self._scheduler.at(arrival, self._broken, source, destination, payload.connection)
            return
        if self._codec:
            payload = self._through_codec(payload)
        if self.links is None:
            self._scheduler.at(arrival, self._deliver, source, destination, payload)
        else:
            self.links.start(arrival, (source, destination), payload)

    def _be_late(self, arrival: int, key: Key, destination: int, payload: Payload) -> None:
        """A frame waits in a machine while its connection ends at the other: it is read after the next one was made."""
        if self._late is not None and destination < CLIENT_NODES:
            self.counts["late"] += 1
            later = self._choices.bits(("how late", *key)) % self.faults.spike_max
            self._scheduler.at(arrival + later, self._late, destination, payload)

    def _key_of(self, kind: str, source: int, destination: int, payload: Payload) -> Key:
        message = payload.message
        envelope = payload.envelope
        if envelope is not None:
            content: Key = (kind, source, destination, envelope.view, envelope.op, envelope.commit)
        else:
            content = (kind, source, destination, getattr(message, "number", 0))
        attempt = self._attempts.get(content, 0)
        self._attempts[content] = attempt + 1
        return (*content, attempt)

    def _stopped(self, source: int, destination: int, kind: str) -> bool:
        if (source, destination) in self.blocked:
            self.counts["blocked"] += 1
            return True
        return bool(self.rules) and any(rule.matches(source, destination, kind) for rule in self.rules)

    def _deliver(self, source: int, destination: int, payload: Payload) -> None:
        # A partition stops what is on its way as well: the cable is cut, not the sender's port.
        if (source, destination) in self.blocked:
            self.counts["blocked"] += 1
            if payload.connection:
                self._torn.add(payload.connection)
            return
        if payload.connection in self._torn:
            self._torn.discard(payload.connection)
            self._broken(source, destination, payload.connection)
            return
        self._arrive(source, destination, payload)

    def _through_codec(self, payload: Payload) -> Payload:
        """Encode, cut and decode, as a real connection would."""
        data = self._encoded(payload)
        (frame,) = FrameReader().feed(data)
        decoded = decode(frame)
        assert decoded is not None, f"our own {type(payload.message).__name__} is of an unknown kind"
        envelope = None if payload.envelope is None else decoded.envelope
        return Payload(decoded.message, envelope, payload.connection)

    def _corrupts(self, key: Key, payload: Payload) -> bool:
        """Perhaps change some bytes of a frame on its way; the receiver must notice."""
        faults, choices = self.faults, self._choices
        if not choices.flag(("corrupt", *key), faults.corruption):
            return False
        data = bytearray(self._encoded(payload))
        bits = choices.bits(("corrupt how", *key))
        at = (bits >> 8) % len(data)
        end = min(at + 1 + (bits >> 40) % 64, len(data))
        if bits & 3 == 0:  # Bytes are missing,
            del data[at:end]
        elif bits & 3 == 1:  # others slip in,
            data[at:at] = bytes((bits >> shift) & 0xFF for shift in range(56))
        else:  # or have changed: one bit, or a whole run of them.
            end = at + 1 if bits & 3 == 2 else end
            for position in range(at, end):
                data[position] ^= 1 << (bits >> 32 & 7) if end == at + 1 else 0xFF
        self.counts["corrupted"] += 1
        try:
            passed = [decode(frame) for frame in FrameReader().feed(bytes(data))]
        except RemoteProtocolError:
            return True
        if passed:
            violate("corruption", f"a damaged {type(payload.message).__name__} is taken for {passed[0]}")
        return True  # It waits for the rest of a frame that never comes.

    def _cut_short(self, payload: Payload) -> None:
        """A connection ends within a frame: what came of it is nothing, and what came before it is whole."""
        if not self._codec:
            return
        data = self._encoded(payload)
        self.counts["cut short"] += 1
        message = payload.message
        key = ("cut short", type(message).__name__, payload.connection, getattr(message, "number", 0))
        end = self._choices.bits(key) % len(data)
        if len(FrameReader().feed(data + data[:end])) != 1:
            violate("corruption", f"{end} bytes of a {type(message).__name__} are taken for a frame")

    def _encoded(self, payload: Payload) -> bytes:
        message = payload.message
        if isinstance(message, ClientMessage):
            return encode_client(self._cluster, message)
        assert payload.envelope is not None, "a frame of a replica has an envelope"
        if isinstance(message, ServerMessage):
            return encode_server(payload.envelope, message)
        return encode_peer(payload.envelope, message)
