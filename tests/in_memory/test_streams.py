"""The made network does to connections what real ones do, and each thing only when told to."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import attrs
import pytest
import trio
from trio.testing import MockClock

from sim.choices import Choices
from trio_pb.testbed.in_memory.network import MemoryNetwork
from trio_pb.testbed.in_memory.streams import KEEPALIVE_US, UNACKNOWLEDGED_US_MAX, MemoryStream, StreamFaults
from trio_pb.testbed.in_memory.timeline import SECOND, Timeline

DATA = bytes(range(256)) * 40


@attrs.define
class Pair:
    """A connection from host `a` to host `b`."""

    network: MemoryNetwork
    dialled: MemoryStream
    accepted: MemoryStream


@asynccontextmanager
async def connected(faults: StreamFaults | None = None) -> AsyncGenerator[Pair, None]:
    """Two hosts and a connection."""
    async with trio.open_nursery() as nursery:
        timeline = Timeline()
        nursery.start_soon(timeline.run)
        network = MemoryNetwork(
            timeline, Choices(1), faults or StreamFaults(), lambda *_event: None, lambda _data: None
        )
        listening = await network.listen("b:7400")
        dialled = await network.dialler("a")("b:7400")
        accepted = await listening.listeners[0].accept()
        assert isinstance(dialled, MemoryStream)
        assert isinstance(accepted, MemoryStream)
        yield Pair(network, dialled, accepted)
        nursery.cancel_scope.cancel()


async def receive_all(stream: MemoryStream) -> list[bytes]:
    """Every read up to the end."""
    reads: list[bytes] = []
    while data := await stream.receive_some():
        reads.append(data)
    return reads


@pytest.mark.parametrize("direct", [0.0, 1.0])
async def test_bytes_arrive_in_order_and_in_pieces(autojump_clock: MockClock, direct: float) -> None:
    """Short reads and short writes lose nothing; a small capacity makes the sender wait."""
    faults = StreamFaults(short_reads=0.7, short_writes=0.7, capacity=1000, direct=direct)
    async with connected(faults) as pair, trio.open_nursery() as nursery:

        async def send() -> None:
            await pair.dialled.send_all(DATA)
            await pair.dialled.aclose()

        nursery.start_soon(send)
        reads = await receive_all(pair.accepted)
        assert b"".join(reads) == DATA
        assert len(reads) > 20


async def test_a_reset_cuts_what_was_under_way(autojump_clock: MockClock) -> None:
    """A first part may still be read; then both sides know."""
    async with connected() as pair:
        await pair.dialled.send_all(DATA)
        pair.dialled.connection.reset()
        read = b""
        with suppress(trio.BrokenResourceError):
            while data := await pair.accepted.receive_some():
                read += data
        with pytest.raises(trio.BrokenResourceError):
            await pair.accepted.receive_some()
        assert DATA.startswith(read)
        assert len(read) < len(DATA)
        with pytest.raises(trio.BrokenResourceError):
            await pair.dialled.send_all(b"more")


async def test_a_machine_without_power_says_nothing(autojump_clock: MockClock) -> None:
    """Whoever only reads learns of it from keep-alive probes; whoever sends, from the missing acknowledgement."""
    async with connected() as pair:
        pair.network.kill("a", power=True)
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError, match="keep-alive"):
            await pair.accepted.receive_some()
        assert trio.current_time() - began == pytest.approx(KEEPALIVE_US / SECOND)
    async with connected() as pair:
        pair.network.kill("a", power=True)
        began = trio.current_time()
        await pair.accepted.send_all(b"is anybody there?")
        with pytest.raises(trio.BrokenResourceError, match="acknowledged"):
            await pair.accepted.receive_some()
        assert trio.current_time() - began == pytest.approx(UNACKNOWLEDGED_US_MAX / SECOND)


async def test_a_cut_delays_and_a_long_one_breaks(autojump_clock: MockClock) -> None:
    """What waited arrives when the way is free, unless a kernel lost its patience before."""
    async with connected() as pair:
        pair.network.block("a", "b")
        await pair.dialled.send_all(b"late")
        await trio.sleep(1)
        pair.network.unblock("a", "b")
        assert await pair.accepted.receive_some() == b"late"
        pair.network.block("a", "b")
        await pair.dialled.send_all(b"never")
        with pytest.raises(trio.BrokenResourceError, match="acknowledged"):
            await pair.dialled.receive_some()


async def test_closing_is_polite_unless_bytes_are_unread(autojump_clock: MockClock) -> None:
    """An end after the last byte; or a reset, as a kernel does."""
    async with connected() as pair:
        await pair.dialled.send_all(b"last words")
        await pair.dialled.aclose()
        assert await receive_all(pair.accepted) == [b"last words"]
        with pytest.raises(trio.ClosedResourceError):
            await pair.dialled.send_all(b"more")
        assert pair.network.free("a") == []
        assert pair.network.free("b") != []
    async with connected() as pair:
        await pair.dialled.send_all(b"unread")
        await trio.sleep(1)
        await pair.accepted.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await pair.dialled.receive_some()


async def test_two_tasks_on_one_side_of_a_stream_are_a_mistake(autojump_clock: MockClock) -> None:
    """As with Trio's own streams: it is told, not tolerated."""
    async with connected() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.accepted.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await pair.accepted.receive_some()
        nursery.cancel_scope.cancel()
