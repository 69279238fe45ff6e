"""Links to peers: dialled, dialled again, bounded, and each message on its channel."""

from __future__ import annotations

import socket
import struct
from random import Random

import pytest
import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock, memory_stream_pair, wait_all_tasks_blocked

from tests.driver.fakes import CLUSTER, FakeCore, make_envelope, make_message, make_transport, receive_messages
from trio_pb.codec.wire import encode_peer
from trio_pb.core.messages import PrepareCopy
from trio_pb.core.ports import Link
from trio_pb.core.prepare import genesis
from trio_pb.driver import peer_link as peer_link_module
from trio_pb.driver.inbox import Inbox
from trio_pb.driver.peer_link import PeerChannel, PeerLink
from trio_pb.driver.tcp import dial_tcp

Stream = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


class Network:
    """Answers dials with memory streams while it is up."""

    def __init__(self) -> None:
        self.up = True
        self.accepted: list[Stream] = []  # The far ends, in order of dialling.
        self.dials: list[float] = []

    async def dial(self, address: str) -> trio.abc.Stream:
        """Connect, or not."""
        assert address == "b:1"
        self.dials.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if not self.up:
            raise ConnectionRefusedError("nobody there")
        ours, theirs = memory_stream_pair()
        self.accepted.append(theirs)
        return ours


async def test_a_broken_connection_is_dialled_again_with_back_off(autojump_clock: MockClock) -> None:
    """Fast at first, then at most every second, and back at work when the peer is."""
    network, changes = Network(), list[bool]()
    network.up = False
    channel = PeerChannel("replica 1", "b:1", network.dial, 1000, changes.append, Random(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.run)
        await trio.sleep(20)
        gaps = [after - before for before, after in zip(network.dials, network.dials[1:], strict=False)]
        assert 0.01 <= gaps[0] <= 0.02
        assert all(0.5 <= gap <= 1.0 for gap in gaps[6:])
        assert len(gaps) > 20
        channel.put(b"lost")
        network.up = True
        await trio.sleep(2)
        assert changes == [True]
        channel.put(b"sent")
        channel.flush()
        assert await network.accepted[0].receive_some() == b"sent"
        await network.accepted[0].aclose()
        await trio.sleep(2)
        assert changes == [True, False, True]
        assert (channel.frames_dropped, channel.connections_made) == (1, 2)
        channel.put(b"again")
        channel.flush()
        assert await network.accepted[1].receive_some() == b"again"
        nursery.cancel_scope.cancel()


async def test_a_dial_that_hangs_is_given_up(autojump_clock: MockClock) -> None:
    """A host that drops our packets costs two seconds, not two minutes."""
    dials: list[float] = []

    async def hang(_address: str) -> trio.abc.Stream:
        dials.append(trio.current_time())
        await trio.sleep_forever()

    channel = PeerChannel("replica 1", "b:1", hang, 1000, lambda _up: None, Random(1))
    with trio.move_on_after(20):
        await channel.run()
    assert 6 <= len(dials) <= 10


async def test_a_peer_that_stops_reading_fills_a_bounded_queue() -> None:
    """The newest messages are dropped and counted; what was queued arrives once it reads again."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    channel = PeerChannel("replica 1", f"127.0.0.1:{port}", dial_tcp, 20 << 20, lambda _up: None, Random(1))
    frame = bytes(1 << 20)
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(channel.run)
        peer = await listener.accept()
        while not channel.is_up:
            await trio.lowlevel.checkpoint()
        sent = 0
        while channel.frames_dropped < 3:
            channel.put(frame)
            channel.flush()
            sent += 1
            assert sent < 200
        received = 0
        while received < (sent - 3) * len(frame):
            received += len(await peer.receive_some(1 << 20))
        assert received == (sent - 3) * len(frame)
        await peer.aclose()
        nursery.cancel_scope.cancel()


async def test_copies_take_the_bulk_channel_and_the_rest_the_control_channel() -> None:
    """R-CHAN: a large copy never stands in front of a small message."""
    network, inbox = Network(), Inbox()
    transport = make_transport(FakeCore(), inbox, peers={1: "b:1"}, dial=network.dial)
    copy = PrepareCopy(genesis(CLUSTER), is_current=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.run_links)
        await wait_all_tasks_blocked()
        assert await inbox.take_all() == [Link(peer=1, connection=None, up=True)]
        for message in (copy, make_message(1), make_message(2)):
            transport.put_peers((1, 2), encode_peer(make_envelope(0), message), type(message))
        transport.flush_peers()
        await wait_all_tasks_blocked()
        ends = [await receive_messages(end, 1) for end in network.accepted]
        assert sorted(ends, key=len) == [[copy], [make_message(1), make_message(2)]]
        nursery.cancel_scope.cancel()


async def test_both_channels_of_a_link_count_what_they_drop() -> None:
    """Without a connection everything is dropped at once."""
    link = PeerLink(1, "b:1", Network().dial, lambda _peer, _up: None, Random(1))
    link.control.put(b"one")
    link.bulk.put(b"two")
    link.flush()
    assert link.frames_dropped == 2


async def test_dialling_nobody_is_an_os_error() -> None:
    """Whatever the reason, so that the link tries again."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(OSError, match="connect"):
        await dial_tcp(f"127.0.0.1:{port}")
    assert peer_link_module.DIAL_SECONDS_MAX < 10


async def test_a_connection_that_is_reset_while_it_is_made_leaves_no_socket_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its other end died at once: an error like any other, and nothing stays open."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    opened: list[trio.SocketStream] = []
    open_tcp_stream = trio.open_tcp_stream

    async def open_and_lose(host: str, port: int) -> trio.SocketStream:
        stream = await open_tcp_stream(host, port)
        accepted, _ = await listeners[0].socket.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()  # With a reset.
        await trio.lowlevel.wait_readable(stream.socket)
        opened.append(stream)
        return stream

    monkeypatch.setattr(trio, "open_tcp_stream", open_and_lose)
    with pytest.raises(OSError, match="not connected"):
        await dial_tcp(f"127.0.0.1:{port}")
    assert opened[0].socket.fileno() == -1
    await listeners[0].aclose()
