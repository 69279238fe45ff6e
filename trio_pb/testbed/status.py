"""Ask one replica who it is and where it stands, over a connection of its own: no session, no primary needed."""

from __future__ import annotations

from typing import TypeVar

import trio

from trio_pb.codec.wire import WIRE_VERSION, encode_client
from trio_pb.core.messages import Greet, Greeted, StatusGet, StatusReport
from trio_pb.driver.addresses import parse_address
from trio_pb.driver.incoming import Incoming
from trio_pb.errors import RemoteProtocolError

__all__ = ["ask_greeting", "ask_status"]

T = TypeVar("T", Greeted, StatusReport)


async def ask_status(address: str, seconds_max: float) -> StatusReport | None:
    """Return what the replica at `address` reports, None when there is no answer within `seconds_max`.

    Raises:
        ConfigError: the address is malformed.
    """
    return await _ask(address, seconds_max, StatusReport)


async def ask_greeting(address: str, seconds_max: float) -> Greeted | None:
    """Return which replica of which cluster answers at `address`, None when none does within `seconds_max`.

    Raises:
        ConfigError: the address is malformed.
    """
    return await _ask(address, seconds_max, Greeted)


async def _ask(address: str, seconds_max: float, wanted: type[T]) -> T | None:
    host, port = parse_address(address)
    with trio.move_on_after(seconds_max):
        try:
            stream = await trio.open_tcp_stream(host or "127.0.0.1", port)
            async with stream:
                await stream.send_all(encode_client(None, Greet((WIRE_VERSION,), None)))
                incoming = Incoming(stream)
                while messages := await incoming.receive():
                    for _envelope, message in messages:
                        if isinstance(message, wanted):
                            return message
                        if isinstance(message, Greeted):  # Only now do we know the cluster.
                            await stream.send_all(encode_client(message.cluster, StatusGet()))
        except (OSError, trio.BrokenResourceError, RemoteProtocolError):
            return None  # Down, going down, or not a replica at all.
    return None
