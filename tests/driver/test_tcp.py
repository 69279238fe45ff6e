"""Listening and dialling over TCP: the options that dead partners make necessary, and closing when cancelled."""

from __future__ import annotations

import socket

import pytest
import trio

from trio_pb.driver.tcp import KEEPALIVE, close_listeners, dial_tcp, listen_tcp


async def test_both_ends_of_a_connection_are_kept_alive() -> None:
    """A partner without power is noticed by whoever only reads: else each one costs a connection for good."""
    listening = await listen_tcp("127.0.0.1:0")
    async with await dial_tcp(f"127.0.0.1:{listening.port}") as dialled:
        accepted = await listening.listeners[0].accept()
        for stream in (dialled, accepted):
            assert isinstance(stream, trio.SocketStream)
            assert stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            for option, value in KEEPALIVE:
                if hasattr(socket, option):
                    assert stream.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) == value
        await accepted.aclose()
    await close_listeners(listening.listeners)


async def test_all_listeners_are_closed_also_when_cancelled() -> None:
    """A server that is cancelled must not leave the second address of its host bound."""
    first, second = await listen_tcp("127.0.0.1:0"), await listen_tcp("127.0.0.1:0")
    listeners = [*first.listeners, *second.listeners]
    with trio.CancelScope() as scope:
        scope.cancel()
        await close_listeners(listeners)
    for port in (first.port, second.port):
        with pytest.raises(OSError, match="connect"):
            await dial_tcp(f"127.0.0.1:{port}")
