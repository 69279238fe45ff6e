"""Free loopback ports for replicas that will be restarted on the same address."""

from __future__ import annotations

import socket
from random import SystemRandom

from trio_pb.errors import ConfigError

__all__ = ["free_ports"]

# Below the ports that systems give to outgoing connections: a replica that is down keeps its number.
# From the ephemeral range a peer that dials it could be given that very number, would then be
# connected to itself and keep the port from the replica that wants it back.
PORT_MIN = 10_000
PORT_MAX = 30_000
TRIES_MAX = 2_000


def free_ports(count: int) -> list[int]:
    """Return `count` different TCP ports on which nobody listens at 127.0.0.1.

    Raises:
        ConfigError: no such ports were found.
    """
    # Random, so that clusters started at the same moment seldom try the same ones.
    draw = SystemRandom()
    held: dict[int, socket.socket] = {}
    try:
        for _ in range(TRIES_MAX):
            if len(held) == count:
                return list(held)
            port = draw.randrange(PORT_MIN, PORT_MAX)
            if port not in held:
                probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    probe.close()
                else:
                    held[port] = probe
    finally:
        for probe in held.values():
            probe.close()
    raise ConfigError(f"no {count} free ports between {PORT_MIN} and {PORT_MAX} at 127.0.0.1")
