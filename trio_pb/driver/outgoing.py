"""Bytes on their way out over one connection: bounded, joined, and sent without a wait if possible.

All frames of a turn leave in one write. A socket's write is tried at once, which costs a system call;
only what the kernel does not take wakes the writer task. (Trio's own send always passes through the
scheduler: a task switch per message.) A stream that cannot be tried, as under TLS, always uses the writer.
"""

from __future__ import annotations

import trio

from trio_pb.driver.direct import direct_of

__all__ = ["Outgoing"]


class Outgoing:
    """The sending half of a connection. Putting and flushing never wait."""

    def __init__(self, stream: trio.abc.SendStream, size_max: int) -> None:
        self._stream = stream
        self._direct = direct_of(stream)
        self._size_max = size_max
        self._frames: list[bytes] = []
        self._size = 0  # Bytes put and not yet taken by the kernel.
        self._rest: bytes | memoryview = b""  # What the writer must send before _frames.
        self._writing = False  # The writer owns the stream.
        self._ended = False  # The writer is gone; nothing leaves any more.
        self._wake = trio.Event()
        self._drained = trio.lowlevel.ParkingLot()

    def put(self, frame: bytes) -> bool:
        """Queue `frame` for the next flush; False (and nothing queued) when over the bound."""
        if self._size + len(frame) > self._size_max:
            return False
        self._frames.append(frame)
        self._size += len(frame)
        return True

    def flush(self) -> None:
        """Send what was put, at once as far as the kernel takes it, else by the writer."""
        if self._writing or not self._frames:
            return
        data = self._join()
        sent = self._write(data)
        self._size -= sent
        if sent < len(data):
            self._rest = memoryview(data)[sent:]
            self._writing = True
            self._wake.set()

    async def run(self) -> None:
        """Write what `flush` could not, until cancelled.

        Raises:
            trio.BrokenResourceError: the connection broke.
            trio.ClosedResourceError: it was closed on our side.
        """
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                while self._rest:
                    await self._stream.send_all(self._rest)
                    self._size -= len(self._rest)
                    self._rest = self._join()  # Whatever was put meanwhile; flush left it to us.
                self._writing = False
                self._drained.unpark_all()
        finally:
            self._ended = True
            self._drained.unpark_all()

    async def drain(self) -> None:
        """Return when everything that was flushed has left, or never will."""
        while self._writing and not self._ended:
            await self._drained.park()

    def _join(self) -> bytes:
        data = b"".join(self._frames)  # Of one item: that item itself, no copy.
        self._frames.clear()
        return data

    def _write(self, data: bytes) -> int:
        if self._direct is None:
            return 0
        try:
            return self._direct.write_now(data)
        except OSError:
            return 0  # No room, or broken: then the writer meets the error where it is handled.
