"""The fake network: partitions of any shape, streams that break instead of losing a frame."""

from __future__ import annotations

import pytest

from sim.choices import Choices
from sim.network import CLIENT_NODES, DropRule, Network, NetworkFaults, Payload
from sim.scheduler import Scheduler
from trio_pb.core.messages import Envelope, GetStartView, Greet

CLUSTER = bytes(16)


def _envelope(replica: int) -> Envelope:
    return Envelope(
        cluster=CLUSTER, replica=replica, incarnation=bytes(8), boot=1, epoch=0, view=1, op=0, commit=0, release=1
    )


class _Wire:
    """A network with notes of what came out of it."""

    def __init__(self, faults: NetworkFaults | None = None, *, codec: bool = False) -> None:
        self.scheduler = Scheduler()
        self.arrived: list[tuple[int, int]] = []
        self.payloads: list[Payload] = []
        self.broken: list[int] = []
        self.network = Network(
            Choices(1),
            self.scheduler,
            faults or NetworkFaults(),
            cluster=CLUSTER,
            codec=codec,
            arrive=self._arrive,
            broken=lambda _source, _destination, connection: self.broken.append(connection),
        )

    def _arrive(self, source: int, destination: int, payload: Payload) -> None:
        self.arrived.append((source, destination))
        self.payloads.append(payload)

    def send(self, source: int, destination: int, nonce: int = 1) -> None:
        """One message from replica to replica."""
        self.network.send(source, destination, Payload(GetStartView(nonce), _envelope(source), 0))

    def send_on_stream(self, connection: int = 5) -> None:
        """One frame from a client to replica 0."""
        self.network.send_on_stream(CLIENT_NODES, 0, Payload(Greet((1,), None), None, connection))

    def settle(self) -> None:
        """Let everything arrive."""
        while self.scheduler.step():
            pass


def test_one_way_block_stops_one_direction() -> None:
    """Links are directed."""
    wire = _Wire()
    wire.network.block([0], [1], one_way=True)
    wire.send(0, 1)
    wire.send(1, 0)
    wire.settle()
    assert wire.arrived == [(1, 0)]


def test_partition_stops_what_is_on_its_way_and_heals() -> None:
    """The cable is cut, with everything in it."""
    wire = _Wire()
    wire.send(0, 1)
    wire.network.block([0], [1])
    wire.settle()
    assert wire.arrived == []
    wire.network.heal()
    wire.send(0, 1)
    wire.settle()
    assert wire.arrived == [(0, 1)]


def test_rule_drops_by_kind_and_link() -> None:
    """A rule matches what it names, and anything where it names nothing."""
    wire = _Wire()
    wire.network.rules.append(DropRule(kind="GetStartView", destination=2))
    wire.send(0, 1)
    wire.send(0, 2)
    wire.settle()
    assert wire.arrived == [(0, 1)]


def test_duplicates_and_losses_are_counted() -> None:
    """With certainty everything arrives twice; or nothing does."""
    wire = _Wire(NetworkFaults(duplication=1.0))
    wire.send(0, 1)
    wire.settle()
    assert wire.arrived == [(0, 1), (0, 1)]
    lossy = _Wire(NetworkFaults(loss=1.0))
    lossy.send(0, 1)
    lossy.settle()
    assert lossy.arrived == []
    assert lossy.network.counts["lost"] == 1


def test_stream_keeps_order_and_breaks_on_a_hole() -> None:
    """A frame lost in a partition costs the connection, at its next use."""
    wire = _Wire()
    for _ in range(20):
        wire.send_on_stream()
    wire.network.block([CLIENT_NODES], [0])
    wire.settle()
    assert wire.arrived == []
    wire.network.heal()
    wire.send_on_stream()
    wire.settle()
    assert wire.broken == [5]
    assert wire.arrived == []


@pytest.mark.parametrize("codec", [False, True])
def test_codec_changes_nothing_that_arrives(codec: bool) -> None:
    """Bytes or objects: the receiver sees the same message."""
    wire = _Wire(codec=codec)
    wire.send(0, 1, nonce=77)
    wire.settle()
    (payload,) = wire.payloads
    assert payload.message == GetStartView(77)
    assert payload.envelope == _envelope(0)
