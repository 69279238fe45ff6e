"""Reads and writes that are tried without waiting, which saves a pass through Trio's scheduler each.

Trio's own `send_all` and `receive_some` always pass through it. A socket is read and written by its
descriptor instead: a system call, and nothing else. Other streams may offer the same; where one does
not (TLS, for example), the ordinary methods do.
"""

from __future__ import annotations

import os
from typing import Protocol, runtime_checkable

import trio

__all__ = ["Direct", "direct_of"]


@runtime_checkable
class Direct(Protocol):
    """The part of a stream that can be tried."""

    async def wait_readable(self) -> None:
        """Return when `read_now` may find something.

        Raises:
            trio.ClosedResourceError: closed on our side.
        """
        ...

    def read_now(self, size: int) -> bytes:
        """Return up to `size` bytes, b"" at the end.

        Raises:
            BlockingIOError: nothing is there yet.
            OSError: the connection broke.
        """
        ...

    def write_now(self, data: bytes | memoryview) -> int:
        """Write as much of `data` as there is room for; return how many bytes that were.

        Raises:
            OSError: no room, or the connection broke.
        """
        ...


class _Socket:
    """A socket by its descriptor."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = stream.socket

    async def wait_readable(self) -> None:
        await trio.lowlevel.wait_readable(self._socket)

    # The descriptor is asked for each time: it is -1 once closed, so never a stranger's.

    def read_now(self, size: int) -> bytes:
        return os.read(self._socket.fileno(), size)

    def write_now(self, data: bytes | memoryview) -> int:
        return os.write(self._socket.fileno(), data)


def direct_of(stream: object) -> Direct | None:
    """Return what tries reads and writes on `stream`, None when nothing can."""
    if isinstance(stream, trio.SocketStream):
        return _Socket(stream)
    return stream if isinstance(stream, Direct) else None
