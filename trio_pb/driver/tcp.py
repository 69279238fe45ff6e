"""Connections over TCP, both ways, with the options that a replica wants of them."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import attrs
import trio

from trio_pb.driver.addresses import parse_address
from trio_pb.errors import ConfigError

__all__ = ["Dial", "Listening", "close_listeners", "dial_tcp", "listen_tcp"]

Dial: TypeAlias = Callable[[str], Awaitable[trio.abc.Stream]]  # Given "host:port"; raises OSError.

BACKLOG = 512
UNACKNOWLEDGED_MS_MAX = 3000  # Then the kernel gives the connection up, and we dial again.
UNSENT_BYTES_LOW = 1 << 20

# A partner that lost its power says nothing, and whoever only reads would wait for ever: after a minute of
# silence that not even its kernel breaks, the connection ends. Without it each such end costs a connection for good.
KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))  # Seconds, seconds, probes.


@attrs.frozen
class Listening:
    """Bound addresses of one host and port."""

    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]
    host: str
    port: int  # The real one when port 0 was asked for.


async def listen_tcp(address: str) -> Listening:
    """Listen on `address`, "host:port".

    Raises:
        ConfigError: it cannot be bound.
    """
    host, port = parse_address(address)
    try:
        listeners = await trio.open_tcp_listeners(port, host=host or None, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"listen {address!r}: cannot bind: {error.strerror or error}; choose another address"
        ) from error
    try:
        if port == 0:
            await close_listeners(listeners[1:])  # Each address of the host has got a port of its own; we tell of one.
            del listeners[1:]
        for listener in listeners:
            _keep_alive(listener.socket)  # What they accept inherits it.
        bound_host, bound_port = listeners[0].socket.getsockname()[:2]
    except BaseException:
        await close_listeners(listeners)
        raise
    return Listening(listeners, bound_host, bound_port)


async def close_listeners(listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]) -> None:
    """Close all of them, also in a task that is being cancelled: that must not end with the first."""
    with trio.CancelScope(shield=True):
        for listener in listeners:
            await listener.aclose()


async def dial_tcp(address: str) -> trio.abc.Stream:
    """Connect to `address`, resolving its name anew (it may have moved).

    Trio sets TCP_NODELAY by itself. Without a bound on unacknowledged time, a connection that
    stalled for a minute of partition would resend only a minute after the partition healed. Trio's
    low-water mark of 16 KiB for unsent bytes suits streams that compete with one another; ours
    would fall back to the writer task with every large prepare.

    Raises:
        OSError: nobody is there.
    """
    host, port = parse_address(address)
    stream = await trio.open_tcp_stream(host, port)
    try:
        _prepare(stream, address)
    except OSError:  # We reached ourselves, or the other side is gone already.
        await trio.aclose_forcefully(stream)
        raise
    return stream


def _prepare(stream: trio.SocketStream, address: str) -> None:
    if stream.socket.getsockname() == stream.socket.getpeername():
        # Dialling a free port that happens to be ours by chance connects a socket to itself, and
        # would keep whom we look for from ever listening there.
        raise ConnectionRefusedError(f"{address}: nobody listens there, we reached ourselves")
    _keep_alive(stream.socket)
    _set(stream.socket, "TCP_USER_TIMEOUT", UNACKNOWLEDGED_MS_MAX)
    _set(stream.socket, "TCP_NOTSENT_LOWAT", UNSENT_BYTES_LOW)


def _keep_alive(sock: trio.socket.SocketType) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        _set(sock, option, value)


def _set(sock: trio.socket.SocketType, option: str, value: int) -> None:
    if hasattr(socket, option):  # Linux has all of them.
        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
