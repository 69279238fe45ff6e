"""The client on Trio: many tasks, cancellation, the classes of its errors, its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.stream_cluster import StreamCluster
from tests.driver.fakes import make_envelope
from trio_pb.codec.wire import encode_client, encode_server
from trio_pb.core.client_ports import ClientOptions
from trio_pb.core.messages import Greet, RejectCode, Reply
from trio_pb.driver.client import Client, connect
from trio_pb.errors import (
    ConfigError,
    DeadlineError,
    LocalProtocolError,
    NotAppliedError,
    NotSentError,
    SessionLostError,
    SnapshotGoneError,
    UnknownOutcomeError,
)


@asynccontextmanager
async def served(
    *, options: ClientOptions | None = None, in_flight_max: int = 4096
) -> AsyncGenerator[tuple[Client, StreamCluster], None]:
    """A client and its cluster."""
    async with trio.open_nursery() as nursery:
        servers = StreamCluster(nursery)
        async with connect(
            "r0,r1,r2", open_stream=servers.open_stream, options=options, in_flight_max=in_flight_max
        ) as client:
            yield client, servers
        nursery.cancel_scope.cancel()


async def test_a_command_returns_its_receipt(autojump_clock: MockClock) -> None:
    """Position, view, who served it; and a query answers from the state after it."""
    async with served() as (client, servers):
        receipt = await client.command(2, b"laptop")
        assert receipt.result == b"did laptop"
        assert (receipt.op, receipt.replica, receipt.connection, receipt.replayed) == (2, 0, 1, False)
        answer = await client.query(2, b"key", min_op=receipt.op)
        assert (answer.result, answer.op) == (b"read key", 2)
        assert (client.cluster, client.primary) == (servers.cluster.replicas[0].cluster, 0)


async def test_hundreds_in_flight_share_steps_and_writes(autojump_clock: MockClock) -> None:
    """Tasks that call at once are sent together, over one connection."""
    async with served() as (client, servers):
        results: list[bytes] = []

        async def order(number: int) -> None:
            results.append((await client.command(2, b"%d" % number)).result)

        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(order, number)
        assert sorted(results) == sorted(b"did %d" % number for number in range(500))
        assert len(servers.opened) == 1
        assert servers.sends < 50


async def test_requests_survive_the_death_of_the_primary(autojump_clock: MockClock) -> None:
    """Each of many requests is answered by the next primary, none twice."""
    async with served() as (client, servers):
        await client.command(2, b"warm")
        servers.cluster.is_ordering = False
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(client.command, 2, b"%d" % number)
            await wait_all_tasks_blocked()
            servers.cluster.is_ordering = True
            await servers.kill(0, successor=1)
        assert sorted(servers.cluster.executed) == sorted([b"warm", *[b"%d" % number for number in range(50)]])
        assert client.primary == 1


async def test_a_cancelled_call_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    """The waiting task goes at once; its number is used up, and later calls work."""
    async with served(in_flight_max=1) as (client, servers):
        await client.command(2, b"warm")
        servers.cluster.is_ordering = False
        with trio.move_on_after(1) as scope:
            await client.command(2, b"cancelled")
        assert scope.cancelled_caught
        await servers.order()
        receipt = await client.command(2, b"next")
        assert receipt.result == b"did next"


async def test_a_full_client_makes_callers_wait(autojump_clock: MockClock) -> None:
    """Over in_flight_max calls wait for room, until their deadline."""
    async with served(in_flight_max=2) as (client, servers):
        await client.command(2, b"warm")
        servers.cluster.is_ordering = False
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(client.command, 2, b"%d" % number)
            await wait_all_tasks_blocked()
            assert len(servers.cluster.admitted) == 2
            with pytest.raises(NotSentError, match="too many"):
                await client.command(2, b"late", timeout_s=0.1)
            await servers.order()
        assert sorted(servers.cluster.executed) == [b"0", b"1", b"2", b"warm"]


async def test_errors_say_what_is_certain(autojump_clock: MockClock) -> None:
    """One class for each outcome, and the reason with it."""
    async with served(options=ClientOptions(sessions_max=1)) as (client, servers):
        await client.command(2, b"warm")
        replica = servers.cluster.replicas[0]

        replica.refuse_with = RejectCode.BAD_REQUEST
        with pytest.raises(NotAppliedError) as refused:
            await client.command(2, b"bad")
        assert refused.value.reason == "bad_request"
        with pytest.raises(NotAppliedError) as refused:
            await client.query(2, b"bad")
        assert refused.value.reason == "bad_request"
        replica.refuse_with = None
        with pytest.raises(NotAppliedError) as refused:
            await client.command(2, bytes(1001))
        assert refused.value.reason == "too_large"

        servers.cluster.is_ordering = False
        with pytest.raises(DeadlineError):
            await client.command(2, b"maybe", timeout_s=0.5)
        await servers.order()

        servers.cluster.sessions.clear()
        with pytest.raises(NotAppliedError) as refused:
            await client.command(2, b"evicted")
        assert refused.value.reason == "no_session"
        with pytest.raises(SnapshotGoneError):
            await client.query(3, b"", cursor=b"unknown")
        with pytest.raises(LocalProtocolError, match="code 1"):
            await client.command(1, b"")
        with pytest.raises(LocalProtocolError, match="lane"):
            await client.command(2, b"", lane=-1)
        with pytest.raises(LocalProtocolError, match="query code"):
            await client.query(-1, b"")


async def test_a_lost_session_is_told(autojump_clock: MockClock) -> None:
    """Sent twice, then evicted: nobody can tell any more."""
    async with served() as (client, servers):
        await client.command(2, b"warm")
        servers.cluster.is_ordering = False

        async def die() -> None:
            await wait_all_tasks_blocked()
            servers.cluster.admitted.clear()
            servers.cluster.sessions.clear()
            servers.cluster.is_ordering = True
            await servers.kill(0, successor=1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(die)
            with pytest.raises(SessionLostError):
                await client.command(2, b"lost")
        assert (await client.command(2, b"next")).result == b"did next"


async def test_nobody_there(autojump_clock: MockClock) -> None:
    """No replica answers: the error says what happened at each address, and comes in no group."""
    async with trio.open_nursery() as nursery:
        servers = StreamCluster(nursery)
        for replica in servers.cluster.replicas:
            replica.is_alive = False
        with pytest.raises(NotSentError, match=r"r0: nobody listens; r1: nobody listens"):
            async with connect(["r0", "r1"], open_stream=servers.open_stream, timeout_s=1):
                raise AssertionError("there was nobody to connect to")


async def test_errors_of_the_block_come_out_bare(autojump_clock: MockClock) -> None:
    """What the caller raises is what the caller gets, and cancelling from outside works."""
    async with trio.open_nursery() as nursery:
        servers = StreamCluster(nursery)
        with pytest.raises(KeyError):
            async with connect("r0", open_stream=servers.open_stream):
                raise KeyError("mine")
        nursery.cancel_scope.cancel()
    with trio.move_on_after(1) as scope:
        async with served() as (client, servers):
            servers.cluster.is_ordering = False
            await client.command(2, b"never")
    assert scope.cancelled_caught


async def test_the_end_of_the_client_ends_calls_elsewhere(autojump_clock: MockClock) -> None:
    """A task outside of the block gets what is certain of its request; later calls are refused."""
    outcomes: list[type[Exception]] = []

    async def order(client: Client) -> None:
        try:
            await client.command(2, b"maybe")
        except UnknownOutcomeError as error:
            outcomes.append(type(error))

    async with trio.open_nursery() as outside:
        async with served() as (client, servers):
            await client.command(2, b"warm")
            servers.cluster.is_ordering = False
            outside.start_soon(order, client)
            await wait_all_tasks_blocked()
        with pytest.raises(NotSentError, match="closed"):
            await client.command(2, b"late")
    assert outcomes == [UnknownOutcomeError]


async def test_bytes_that_are_no_frames_cost_the_connection(autojump_clock: MockClock) -> None:
    """Garbage from a replica: reconnect, ask again."""
    async with served() as (client, servers):
        await client.command(2, b"warm")
        await servers.send_raw(0, b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3)
        assert (await client.command(2, b"next")).result == b"did next"
        assert len(servers.opened) > 1


async def test_a_message_that_no_replica_sends_costs_the_connection(autojump_clock: MockClock) -> None:
    """Also when it came together with a good one."""
    async with served() as (client, servers):
        await client.command(2, b"warm")
        old_reply = Reply(b"x" * 16, 7, 1, 1, 0, 1, replayed=False, result=b"")
        good = encode_server(make_envelope(0), old_reply)
        await servers.send_raw(0, good + encode_client(None, Greet((1,), None)))
        await trio.sleep(0.3)
        assert len(servers.opened) > 1, "noticed at once, not with the next call"
        assert (await client.command(2, b"next")).result == b"did next"


async def test_a_lone_caller_that_is_refused_at_once_can_go_on(autojump_clock: MockClock) -> None:
    """Its submission is stepped in its own task, and completed there before it waits."""
    async with served() as (client, servers):
        for number in range(3):
            await client.command(2, b"%d" % number)
            with pytest.raises(NotAppliedError, match="too_large"):
                await client.command(2, bytes(1001))
        assert servers.cluster.executed == [b"0", b"1", b"2"]


async def test_a_malformed_address_is_refused_at_once() -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigError, match="nonsense"):
        async with connect("nonsense"):
            raise AssertionError("that is no address")
