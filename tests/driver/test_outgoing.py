"""Frames leave in order and joined, over sockets and over streams without a descriptor."""

from __future__ import annotations

import socket

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from trio_pb.driver.outgoing import Outgoing


def socket_stream_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Two ends of a local connection."""
    left, right = trio.socket.socketpair()
    return trio.SocketStream(left), trio.SocketStream(right)


async def receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    """Read `size` bytes."""
    data = b""
    while len(data) < size:
        data += await stream.receive_some(size - len(data))
    return data


async def test_a_socket_takes_all_frames_of_a_turn_in_one_write_without_a_task() -> None:
    """No writer runs here, and yet the bytes are there."""
    ours, theirs = socket_stream_pair()
    async with ours, theirs:
        outgoing = Outgoing(ours, 1000)
        assert outgoing.put(b"one")
        assert outgoing.put(b"two")
        outgoing.flush()
        assert await theirs.receive_some() == b"onetwo"


async def test_a_stream_without_a_descriptor_uses_the_writer() -> None:
    """Tests and TLS take this way; drain tells when all has left."""
    ours, theirs = memory_stream_pair()
    outgoing = Outgoing(ours, 1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outgoing.run)
        outgoing.put(b"one")
        outgoing.put(b"two")
        outgoing.flush()
        await outgoing.drain()
        assert await theirs.receive_some() == b"onetwo"
        nursery.cancel_scope.cancel()


async def test_what_the_kernel_does_not_take_follows_in_order() -> None:
    """A receiver that reads late gets every byte, in order, and the bound counts what is left."""
    ours, theirs = socket_stream_pair()
    ours.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    frames = [bytes([number]) * 50_000 for number in range(8)]
    outgoing = Outgoing(ours, 400_000)
    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(outgoing.run)
        for frame in frames:
            assert outgoing.put(frame)
            outgoing.flush()
            await wait_all_tasks_blocked()
        assert await receive_exactly(theirs, 400_000) == b"".join(frames)
        await outgoing.drain()
        assert outgoing.put(bytes(400_000))
        nursery.cancel_scope.cancel()


async def test_a_full_queue_refuses_the_newest_frame_only() -> None:
    """What was queued before is sent; memory stays bounded."""
    ours, theirs = socket_stream_pair()
    async with ours, theirs:
        outgoing = Outgoing(ours, 10)
        assert outgoing.put(b"12345678")
        assert not outgoing.put(b"abc")
        assert outgoing.put(b"90")
        outgoing.flush()
        assert await theirs.receive_some() == b"1234567890"
        assert outgoing.put(b"x" * 10)


async def test_a_broken_connection_ends_the_writer_not_the_caller() -> None:
    """Flush never raises: the error belongs to the task that owns the connection."""
    ours, theirs = socket_stream_pair()
    async with ours:
        await theirs.aclose()
        outgoing = Outgoing(ours, 1000)
        outgoing.put(b"one")
        outgoing.flush()
        with pytest.raises(trio.BrokenResourceError):
            await outgoing.run()
        with trio.fail_after(1):
            await outgoing.drain()


async def test_after_a_close_nothing_is_written_to_a_strangers_descriptor() -> None:
    """A descriptor's number may be in use again for something else."""
    ours, theirs = socket_stream_pair()
    outgoing = Outgoing(ours, 1000)
    number = ours.socket.fileno()
    await ours.aclose()
    stranger, reader = socket.socketpair()
    with stranger, reader:
        reader.setblocking(False)
        assert stranger.fileno() == number, "the kernel reuses the lowest free number"
        outgoing.put(b"secret")
        outgoing.flush()
        with pytest.raises(BlockingIOError):
            reader.recv(10)
    await theirs.aclose()
