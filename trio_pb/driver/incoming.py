"""Frames on their way in over one connection, decoded chunk by chunk.

A socket is read directly once it is readable: Trio's own receive first tries without waiting, which
for a partner that answers one message with one costs a failed system call, an exception and an
asynchronous context manager per message.
"""

from __future__ import annotations

import trio

from trio_pb.codec.frames import FrameReader
from trio_pb.codec.wire import Decoded, decode
from trio_pb.driver.direct import direct_of

__all__ = ["Incoming"]

CHUNK_SIZE = 128 * 1024


class Incoming:
    """The receiving half of a connection. Memory is bounded by one frame and one chunk."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._direct = direct_of(stream)
        self._reader = FrameReader()
        self.bytes_received = 0
        self.frames_unknown = 0  # Of kinds that a later release may have: dropped (PROTOCOL 3.1).

    async def receive(self) -> list[Decoded]:
        """Wait for at least one complete frame and return all that came with it; [] at the end.

        Raises:
            RemoteProtocolError: the bytes are no frames of ours; the connection is spent.
            trio.BrokenResourceError: the connection broke.
            trio.ClosedResourceError: it was closed on our side.
        """
        while True:
            data = await self._receive_chunk()
            if not data:
                return []
            self.bytes_received += len(data)
            messages: list[Decoded] = []
            for frame in self._reader.feed(bytes(data)):
                message = decode(frame)
                if message is None:
                    self.frames_unknown += 1
                else:
                    messages.append(message)
            if messages:
                return messages

    async def _receive_chunk(self) -> bytes | bytearray:
        """Wait for bytes and return them; b"" at the end."""
        if self._direct is None:
            return await self._stream.receive_some(CHUNK_SIZE)
        while True:
            await self._direct.wait_readable()
            try:
                return self._direct.read_now(CHUNK_SIZE)
            except BlockingIOError:
                continue  # Readiness is a hint.
            except OSError as error:
                raise trio.BrokenResourceError(f"socket connection broken: {error}") from error
