"""Links that are narrow, clogged or reset, and frames that are damaged on their way."""

from __future__ import annotations

import pytest

from sim.choices import Choices
from sim.links import CLOG_QUEUE, Links, size_of
from sim.network import CLIENT_NODES, Network, NetworkFaults, Payload
from sim.oracles.facts import Violation
from sim.scheduler import SECOND, Scheduler
from trio_pb.core.messages import Envelope, GetStartView, Greet

CLUSTER = bytes(16)
ENVELOPE = Envelope(
    cluster=CLUSTER, replica=0, incarnation=bytes(8), boot=1, epoch=0, view=1, op=0, commit=0, release=1
)
LINK = (0, 1)


class _World:
    """A network with troubled links, and notes of what came out of it."""

    def __init__(self, faults: NetworkFaults | None = None, *, codec: bool = False) -> None:
        self.scheduler = Scheduler()
        self.arrived: list[tuple[int, object]] = []  # When, and the nonce.
        self.broken: list[int] = []
        self.network = Network(
            Choices(1),
            self.scheduler,
            faults or NetworkFaults(latency_min=1000, latency_mean=0),
            cluster=CLUSTER,
            codec=codec,
            arrive=self._arrive,
            broken=lambda _source, _destination, connection: self.broken.append(connection),
            troubled=True,
        )

    @property
    def links(self) -> Links:
        """Its links."""
        assert self.network.links is not None
        return self.network.links

    @property
    def nonces(self) -> list[object]:
        """What arrived, in order."""
        return [nonce for _, nonce in self.arrived]

    def _arrive(self, source: int, destination: int, payload: Payload) -> None:
        message = payload.message
        self.arrived.append((self.scheduler.now, message.nonce if isinstance(message, GetStartView) else None))

    def send(self, *nonces: int) -> None:
        """Messages from replica 0 to replica 1."""
        for nonce in nonces:
            self.network.send(*LINK, Payload(GetStartView(nonce), ENVELOPE, 0))

    def settle(self) -> None:
        """Let everything happen that is to happen."""
        while self.scheduler.step():
            pass


def test_a_clogged_link_lets_everything_through_at_once() -> None:
    """Queue, then flood: in order, at the moment in which it comes free."""
    world = _World()
    made = world.links.clog({LINK})
    world.send(1, 2, 3)
    world.scheduler.run_until(SECOND)
    assert world.nonces == []
    world.links.free(made)
    assert world.arrived == [(SECOND, 1), (SECOND, 2), (SECOND, 3)]
    assert world.links.counts["clogged"] == 3
    world.send(4)
    world.settle()
    assert world.nonces[-1] == 4


def test_the_queue_of_a_clogged_link_is_bounded() -> None:
    """Who sends more than the queue holds loses the rest."""
    world = _World()
    made = world.links.clog({LINK})
    world.send(*range(CLOG_QUEUE + 5))
    world.settle()
    world.links.free(made)
    assert world.nonces == list(range(CLOG_QUEUE))
    assert world.links.counts["overflowed"] == 5


def test_a_clog_that_another_made_is_not_freed_with_ours() -> None:
    """Clogs overlap; each frees what it clogged."""
    world = _World()
    world.links.clog({LINK})
    assert world.links.clog({LINK}) == set()


@pytest.mark.parametrize("codec", [False, True])
def test_a_reset_loses_what_is_on_its_way(codec: bool) -> None:
    """Also what waits behind a clog; what is sent afterwards arrives."""
    world = _World(codec=codec)
    world.send(1, 2)
    world.links.reset(1, 0)
    world.settle()
    assert world.nonces == []
    assert world.links.counts["reset"] == 2
    assert world.network.counts["cut short"] == (2 if codec else 0)
    world.links.clog({LINK})
    world.send(3)
    world.settle()
    world.links.reset(0, 1)
    world.links.free({LINK})
    world.send(4)
    world.settle()
    assert world.nonces == [4]


def test_a_narrow_link_delays_and_its_queue_overflows() -> None:
    """One after the other in the order of sending, each as long as its size takes; the rest does not fit."""
    size = size_of(GetStartView(1))
    faults = NetworkFaults(latency_min=0, latency_mean=0, bytes_per_second=10 * size, queue_bytes=3 * size)
    world = _World(faults)
    world.send(1, 2, 3, 4, 5, 6)
    world.settle()
    tenth = SECOND // 10
    assert world.arrived == [(tenth, 1), (2 * tenth, 2), (3 * tenth, 3), (4 * tenth, 4)]
    assert world.links.counts["overflowed"] == 2


def test_a_narrow_stream_waits_and_loses_nothing() -> None:
    """A client's frames are held up, as TCP does."""
    size = size_of(Greet((1,), None))
    faults = NetworkFaults(latency_min=0, latency_mean=0, bytes_per_second=10 * size, queue_bytes=size)
    world = _World(faults)
    for _ in range(8):
        world.network.send_on_stream(CLIENT_NODES, 0, Payload(Greet((1,), None), None, 5))
    world.settle()
    assert [when for when, _ in world.arrived] == [SECOND // 10 * (n + 1) for n in range(8)]


def test_a_damaged_frame_is_dropped_and_counted() -> None:
    """Whatever changed, nothing arrives of it; a stream ends with it."""
    world = _World(NetworkFaults(corruption=1.0), codec=True)
    world.send(*range(300))
    world.network.send_on_stream(CLIENT_NODES, 0, Payload(Greet((1,), None), None, 5))
    world.settle()
    assert world.arrived == []
    assert world.broken == [5]
    assert world.network.counts["corrupted"] == 301


def _no_digest(_data: bytes) -> bytes:
    return bytes(16)


def test_a_damaged_frame_that_is_taken_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without digests damaged bytes would be believed."""
    monkeypatch.setattr("trio_pb.codec.frames.checksum_of", _no_digest)
    world = _World(NetworkFaults(corruption=1.0), codec=True)
    with pytest.raises(Violation, match="corruption"):
        world.send(*range(300))
