"""Each fault of the proxy is seen to act, on real connections, and is gone when it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.lowlevel

from trio_pb.codec.frames import encode_frame
from trio_pb.testbed.torture.proxy import CALM, CLIENTS, Link, Network, Weather

SECONDS_MAX = 10
SILENT_SECONDS = 0.05  # Nothing comes, as far as one can see without waiting for ever.
FRAMES = [encode_frame(b"header", bytes([number]) * 40) for number in range(20)]


@attrs.define
class Ends:
    """Both ends of a connection through a link."""

    near: trio.SocketStream
    far: trio.SocketStream


@attrs.define
class World:
    """A network in front of one target."""

    network: Network
    listener: trio.SocketListener
    streams: list[trio.SocketStream] = attrs.Factory(list[trio.SocketStream])  # Closed in the end.

    @property
    def link(self) -> Link:
        """The way of clients."""
        return self.network.link(CLIENTS, 0)

    async def dial(self) -> trio.SocketStream:
        """Connect as a client does."""
        self.streams.append(await trio.open_tcp_stream("127.0.0.1", self.link.port))
        return self.streams[-1]

    async def connect(self) -> Ends:
        """Connect, take it at the target, and see that it is there from end to end."""
        near = await self.dial()
        far = await self.listener.accept()
        self.streams.append(far)
        await far.send_all(FRAMES[0])
        assert await read(near, len(FRAMES[0])) == FRAMES[0]
        return Ends(near, far)


@asynccontextmanager
async def world() -> AsyncGenerator[World, None]:
    """Open a network, for as long as a test should take."""
    with trio.fail_after(SECONDS_MAX):
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        async with listener, trio.open_nursery() as nursery:
            network = Network([f"127.0.0.1:{port}"], seed=1)
            await nursery.start(network.run)
            it = World(network, listener)
            yield it
            for stream in it.streams:
                await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()


async def read(stream: trio.SocketStream, size: int) -> bytes:
    """Exactly so many bytes."""
    data = b""
    while len(data) < size:
        piece = await stream.receive_some(size - len(data))
        assert piece, "the connection ended"
        data += piece
    return data


async def is_silent(stream: trio.SocketStream) -> bool:
    """Whether neither a byte nor an end comes."""
    with trio.move_on_after(SILENT_SECONDS):
        await stream.receive_some(1)
        return False
    return True


async def is_ended(stream: trio.SocketStream) -> bool:
    """Whether it ends, one way or the other."""
    try:
        return not await stream.receive_some(1)
    except trio.BrokenResourceError:
        return True


async def test_in_calm_weather_everything_passes_both_ways() -> None:
    """Frames in any pieces, what is no frame, and the end, which comes after all that was said."""
    async with world() as it:
        ends = await it.connect()
        data = b"".join(FRAMES)
        for start in range(0, len(data), 7):
            await ends.near.send_all(data[start : start + 7])
        assert await read(ends.far, len(data)) == data
        await ends.far.send_all(data)
        assert await read(ends.near, len(data)) == data
        junk = b"no frame at all, but long enough to be looked at"
        await ends.near.send_all(junk)
        assert await read(ends.far, len(junk)) == junk
        await ends.near.send_all(FRAMES[0])
        await ends.near.aclose()
        assert await read(ends.far, len(FRAMES[0])) == FRAMES[0]
        assert await ends.far.receive_some(1) == b""


async def test_dropped_frames_are_lost_whole_and_the_stream_goes_on() -> None:
    """What arrives are frames that were sent, in their order, and not all of them."""
    async with world() as it:
        ends = await it.connect()
        it.link.forth = Weather(drop_share=0.5)
        await ends.near.send_all(b"".join(FRAMES))
        while it.link.harmed["drop"] < 5:
            await trio.lowlevel.checkpoint()
        it.link.forth = CALM
        await ends.near.send_all(b"".join(FRAMES))
        arrived = await read(ends.far, len(FRAMES[0]) * (2 * len(FRAMES) - it.link.harmed["drop"]))
        numbers = [arrived[start + len(FRAMES[0]) - 1] for start in range(0, len(arrived), len(FRAMES[0]))]
        assert numbers[-len(FRAMES) :] == list(range(len(FRAMES)))
        assert numbers[: -len(FRAMES)] == sorted(set(numbers[: -len(FRAMES)]))
        assert 5 <= it.link.harmed["drop"] < len(FRAMES)


async def test_a_one_way_street_lets_pass_the_other_way() -> None:
    """Forth nothing, back everything; then both."""
    async with world() as it:
        ends = await it.connect()
        it.link.forth = Weather(is_closed=True)
        await ends.near.send_all(FRAMES[0])
        await ends.far.send_all(FRAMES[1])
        assert await read(ends.near, len(FRAMES[1])) == FRAMES[1]
        assert await is_silent(ends.far)
        assert it.link.harmed["one-way"] == 1
        it.link.forth = CALM
        await ends.near.send_all(FRAMES[2])
        assert await read(ends.far, len(FRAMES[2])) == FRAMES[2]


async def test_a_corrupted_frame_differs_in_one_bit() -> None:
    """Not in its length, so that what follows is cut where it was."""
    async with world() as it:
        ends = await it.connect()
        it.link.back = Weather(corrupt_share=1.0)
        await ends.far.send_all(FRAMES[0])
        damaged = await read(ends.near, len(FRAMES[0]))
        differing = [(old ^ new).bit_count() for old, new in zip(FRAMES[0], damaged, strict=True)]
        assert sum(differing) == 1
        assert it.link.harmed["corrupt"] == 1


async def test_a_delay_is_kept() -> None:
    """Nothing comes earlier, and in its order."""
    async with world() as it:
        ends = await it.connect()
        it.link.forth = Weather(delay_seconds=0.1, jitter_seconds=0.05)
        began = trio.current_time()
        for frame in FRAMES:
            await ends.near.send_all(frame)
        assert await read(ends.far, sum(map(len, FRAMES))) == b"".join(FRAMES)
        assert trio.current_time() - began >= 0.1
        assert it.link.harmed["delay"] >= 1


async def test_a_throttled_link_takes_its_time() -> None:
    """A thousand bytes at five thousand a second."""
    async with world() as it:
        ends = await it.connect()
        it.link.forth = Weather(bytes_per_second=5000)
        frame = encode_frame(b"header", bytes(1500))
        began = trio.current_time()
        await ends.near.send_all(frame)
        assert await read(ends.far, len(frame)) == frame
        assert trio.current_time() - began >= 0.2
        assert it.link.harmed["throttle"] >= 3


async def test_a_cut_resets_connections_and_new_ones_until_it_is_mended() -> None:
    """Both ends hear of it."""
    async with world() as it:
        ends = await it.connect()
        it.link.cut()
        for stream in (ends.near, ends.far):
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some(1)
        again = await it.dial()
        assert await is_ended(again)
        assert it.link.harmed["cut"] == 2
        it.link.mend()
        ends = await it.connect()
        await ends.near.send_all(FRAMES[0])
        assert await read(ends.far, len(FRAMES[0])) == FRAMES[0]


async def test_half_open_connections_swallow_everything_and_nobody_is_told() -> None:
    """Neither end hears of it, nor of the end of the other; later whoever sends is reset, and new ones live."""
    async with world() as it:
        old, other = await it.connect(), await it.connect()
        it.link.leave_half_open()
        new = await it.dial()
        for stream in (old.near, old.far, new):
            await stream.send_all(FRAMES[0])
        for stream in (old.near, old.far, new):
            assert await is_silent(stream)
        await new.send_all(bytes(32 << 20))  # More than anybody would keep.
        await other.near.aclose()
        assert await is_silent(other.far)
        assert it.link.harmed["half-open"] == 3

        it.link.revive()
        assert await is_ended(other.far)
        assert await is_silent(old.near)
        await old.near.send_all(FRAMES[1])
        assert await is_ended(old.near)
        assert await is_ended(old.far)
        ends = await it.connect()
        await ends.near.send_all(FRAMES[0])
        assert await read(ends.far, len(FRAMES[0])) == FRAMES[0]


async def test_where_nobody_listens_the_connection_ends() -> None:
    """As when it is dialled without a proxy, only later."""
    async with world() as it:
        await it.listener.aclose()
        assert await is_ended(await it.dial())


async def test_links_are_one_for_each_direction() -> None:
    """Between all replicas, and from clients to each."""
    network = Network(["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"], seed=1)
    assert len(network.links) == 3 * 2 + 3
    assert (network.link(0, 2).source, network.link(0, 2).target) == (0, 2)
    assert network.link(CLIENTS, 1) is not network.link(0, 1)
