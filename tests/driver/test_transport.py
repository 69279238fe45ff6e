"""Whoever connects to us: greeted, served, and unable to disturb anybody else."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock, memory_stream_pair, wait_all_tasks_blocked

from tests.driver.fakes import (
    CLUSTER,
    FakeCore,
    FakeMachine,
    make_envelope,
    make_message,
    make_transport,
    receive_messages,
)
from trio_pb.codec.wire import encode_client, encode_peer, encode_server
from trio_pb.core.messages import (
    Greet,
    Greeted,
    Reject,
    RejectCode,
    Reply,
    Request,
    StatusGet,
    StatusReport,
)
from trio_pb.core.ports import FromClient, FromPeer, Link
from trio_pb.driver import transport as transport_module
from trio_pb.driver.inbox import CLIENT_REQUESTS_MAX, Inbox
from trio_pb.driver.transport import Transport

GREET = encode_client(None, Greet((1,), None))
Stream = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


def make_request(number: int, body: bytes = b"body") -> Request:
    """One of a session's requests."""
    return Request(b"x" * 16, 7, number, 2, body)


def encode_request(number: int, body: bytes = b"body") -> bytes:
    """The frame of one."""
    return encode_client(CLUSTER, make_request(number, body))


def make_reply(number: int, result: bytes = b"ok") -> Reply:
    """The answer to one."""
    return Reply(b"x" * 16, 7, number, 1, 0, 1, replayed=False, result=result)


@asynccontextmanager
async def connected(transport: Transport) -> AsyncGenerator[Stream, None]:
    """One connection, served until the block ends."""
    theirs, ours = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.serve, ours)
        yield theirs
        await theirs.aclose()


async def test_a_client_is_greeted_with_who_and_where_we_are() -> None:
    """The greeting is answered without a turn of the replica."""
    inbox = Inbox()
    async with connected(make_transport(FakeCore(), inbox)) as client:
        await client.send_all(GREET)
        [greeted] = await receive_messages(client, 1)
        assert isinstance(greeted, Greeted)
        assert (greeted.cluster, greeted.replica, greeted.connection) == (CLUSTER, 0, 2)
        assert [(member.replica, member.address) for member in greeted.members] == [(0, "a:1"), (1, "b:1"), (2, "")]


async def test_requests_reach_the_inbox_and_replies_their_connection() -> None:
    """Two clients, one frame each, and each gets its own reply."""
    inbox = Inbox()
    transport = make_transport(FakeCore(), inbox)
    async with connected(transport) as one, connected(transport) as two:
        await one.send_all(GREET + encode_request(1))
        await wait_all_tasks_blocked()
        await two.send_all(GREET + encode_request(2) + encode_request(3))
        await wait_all_tasks_blocked()
        assert await inbox.take_all() == [
            FromClient(2, make_request(1)),
            FromClient(3, make_request(2)),
            FromClient(3, make_request(3)),
        ]
        for tag, number in ((3, 2), (2, 1), (3, 3)):
            transport.put_client(tag, encode_server(make_envelope(0), make_reply(number)))
        transport.flush_clients()
        assert (await receive_messages(one, 2))[1] == make_reply(1)
        assert (await receive_messages(two, 3))[1:] == [make_reply(2), make_reply(3)]


@settings(max_examples=50)
@given(cuts=st.lists(st.integers(1, 400), max_size=8), frames=st.integers(1, 4))
async def test_frames_arrive_whole_however_the_network_cuts_them(cuts: list[int], frames: int) -> None:
    """Any chunks, the same requests."""
    inbox = Inbox()
    data = GREET + b"".join(encode_request(number) for number in range(frames))
    async with connected(make_transport(FakeCore(), inbox)) as client:
        start = 0
        for cut in [*cuts, len(data)]:
            if data[start : start + cut]:
                await client.send_all(data[start : start + cut])
                await wait_all_tasks_blocked()
            start += cut
        assert await inbox.take_all() == [FromClient(2, make_request(number)) for number in range(frames)]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n" * 3,
        encode_request(1),
        encode_client(CLUSTER, StatusGet()),
        GREET + encode_peer(make_envelope(1), make_message(1)),
        encode_peer(make_envelope(9), make_message(1)),
        encode_peer(make_envelope(0), make_message(1)),
        encode_peer(make_envelope(1), make_message(1)) + encode_peer(make_envelope(2), make_message(1)),
        encode_peer(make_envelope(1), make_message(1)) + GREET,
        encode_server(make_envelope(1), make_reply(1)),
        GREET[:-1] + bytes([GREET[-1] ^ 1]),
    ],
    ids=[
        "not a frame",
        "request before the greeting",
        "status before the greeting",
        "peer message of a client",
        "unknown replica",
        "our own id",
        "two replicas in one connection",
        "a peer that turns into a client",
        "reply of a peer",
        "bit flip",
    ],
)
async def test_who_breaks_the_protocol_loses_that_connection_and_no_other(data: bytes) -> None:
    """The offender is counted and cut off; a client beside it goes on."""
    inbox = Inbox()
    transport = make_transport(FakeCore(), inbox)
    async with connected(transport) as good, connected(transport) as bad:
        await good.send_all(GREET)
        await bad.send_all(data)
        with trio.fail_after(1):
            while await bad.receive_some():
                pass
        assert transport.counters["protocol_errors"] == 1
        await good.send_all(encode_request(5))
        await wait_all_tasks_blocked()
        assert FromClient(2, make_request(5)) in await inbox.take_all()


@pytest.mark.parametrize("where", ["greeting", "request"])
async def test_a_client_of_another_cluster_is_told_so_and_let_go(where: str) -> None:
    """A reject, then the end; the request goes nowhere."""
    inbox = Inbox()
    foreign = b"f" * 16
    data = encode_client(foreign, Greet((1,), foreign))
    if where == "request":
        data = GREET + encode_client(foreign, make_request(1))
    async with connected(make_transport(FakeCore(), inbox)) as client:
        await client.send_all(data)
        with trio.fail_after(1):
            messages = await receive_messages(client, 9)
        assert isinstance(messages[-1], Reject)
        assert messages[-1].code is RejectCode.WRONG_CLUSTER
        assert await inbox.take_all() == [Link(peer=None, connection=2, up=False)]


async def test_a_client_that_speaks_only_other_versions_is_refused() -> None:
    """A clear code instead of silence."""
    async with connected(make_transport(FakeCore(), Inbox())) as client:
        await client.send_all(encode_client(None, Greet((2, 3), None)))
        [reject] = await receive_messages(client, 1)
        assert isinstance(reject, Reject)
        assert reject.code is RejectCode.RELEASE


async def test_status_comes_from_the_report_and_the_state_machine() -> None:
    """With the driver's own counters among those of the core."""
    core = FakeCore()
    core.applied = core.commit = 12
    async with connected(make_transport(core, Inbox())) as client:
        await client.send_all(GREET + encode_client(CLUSTER, StatusGet()))
        status = (await receive_messages(client, 2))[1]
        assert isinstance(status, StatusReport)
        assert (status.applied, status.state_op, len(status.state_digest)) == (12, 12, 32)
        counters = dict(status.counters)
        assert counters["core_steps"] == 0
        assert (counters["checkpoint_op"], counters["certified_op"], counters["log_low"]) == (0, 0, 1)


async def test_the_digest_of_a_large_state_is_prepared_between_turns_of_others() -> None:
    """A status request does not stop the loop; what it tells is of one moment."""
    core, machine = FakeCore(), FakeMachine()
    machine.unprepared = 50
    passes = 0
    async with connected(make_transport(core, Inbox(), machine=machine)) as client, trio.open_nursery() as nursery:

        async def somebody_else() -> None:
            nonlocal passes
            while machine.unprepared:
                passes += 1
                core.applied += 1
                await trio.lowlevel.checkpoint()

        await client.send_all(GREET + encode_client(CLUSTER, StatusGet()))
        nursery.start_soon(somebody_else)
        status = (await receive_messages(client, 2))[1]
        assert isinstance(status, StatusReport)
        assert passes >= 40
        assert status.applied == core.applied


async def test_messages_of_a_peer_reach_the_inbox() -> None:
    """In order, with their envelopes."""
    inbox = Inbox()
    async with connected(make_transport(FakeCore(), inbox)) as peer:
        await peer.send_all(b"".join(encode_peer(make_envelope(1), make_message(n)) for n in range(3)))
        assert await inbox.take_all() == [FromPeer(make_envelope(1), make_message(n)) for n in range(3)]


async def test_who_says_nothing_is_let_go(autojump_clock: MockClock) -> None:
    """A connection without a first frame does not stay."""
    async with connected(make_transport(FakeCore(), Inbox())) as silent:
        await silent.send_all(GREET[:20])
        start = trio.current_time()
        assert await silent.receive_some() == b""
        assert trio.current_time() - start == transport_module.FIRST_FRAME_SECONDS_MAX


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    """Its replies would otherwise fill our memory; the core hears that it is gone."""
    inbox = Inbox()
    transport = make_transport(FakeCore(), inbox)
    frame = encode_server(make_envelope(0), make_reply(1, bytes(1 << 20)))
    # A memory stream takes everything at once, so here replies pile up within one turn.
    async with connected(transport) as client:
        await client.send_all(GREET)
        await receive_messages(client, 1)
        for _ in range(transport_module.CLIENT_BYTES_MAX // len(frame) + 1):
            transport.put_client(2, frame)
        await wait_all_tasks_blocked()
        assert transport.counters["client_connections_too_slow"] == 1
        assert await inbox.take_all() == [Link(peer=None, connection=2, up=False)]
        transport.put_client(2, frame)
        transport.flush_clients()
        assert transport.counters["client_messages_dropped"] == 1


async def test_we_stop_reading_a_client_while_too_much_of_it_is_unprocessed() -> None:
    """Backpressure: what it sends waits in its own buffers, and nothing is lost."""
    inbox = Inbox()
    total = 3 * CLIENT_REQUESTS_MAX
    async with connected(make_transport(FakeCore(), inbox)) as client:
        await client.send_all(GREET)
        await receive_messages(client, 1)
        for number in range(0, total, 64):
            await client.send_all(b"".join(encode_request(n) for n in range(number, number + 64)))
        taken = 0
        with trio.fail_after(5):
            while taken < total:
                await wait_all_tasks_blocked()
                batch = await inbox.take_all()
                assert len(batch) < 2 * CLIENT_REQUESTS_MAX
                taken += len(batch)


async def test_too_many_connections_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound holds, and a place becomes free again."""
    monkeypatch.setattr(transport_module, "CONNECTIONS_MAX", 1)
    transport = make_transport(FakeCore(), Inbox())
    async with connected(transport) as first:
        await first.send_all(GREET)
        await receive_messages(first, 1)
        async with connected(transport) as second:
            assert await second.receive_some() == b""
    assert transport.counters["connections_refused"] == 1
    async with connected(transport) as third:
        await third.send_all(GREET)
        assert await receive_messages(third, 1)
