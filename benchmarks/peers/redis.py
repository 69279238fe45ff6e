"""A Redis primary and one replica, as Debian ships them; both flush each write (appendfsync always).

What WAIT promises is memory: a replica acknowledges what it has executed. But Redis 7.0 flushes its file before it
writes to any connection (`beforeSleep` of its server.c), and the acknowledgement is such a write, asked for behind the
commands that it covers. So with a replica that flushes always, an acknowledged put is on two disks, as with the
others; a replica that flushes less often would be compared with them for less.
"""

from __future__ import annotations

import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from benchmarks.peers.points import Found, Point
from benchmarks.peers.program import free_ports, load_with, running, wait_until

__all__ = ["redis"]


@attrs.frozen
class _Redis:
    load: Path
    port: int
    servers: Sequence[int]
    name: str = "Redis, AOF always, WAIT 1"

    def can(self, point: Point) -> bool:
        return point.clients == point.connections  # WAIT concerns a whole connection.

    async def measure(self, point: Point, warm_up_seconds: float, seconds: float) -> Found:
        words = ["-system", "redis", "-endpoints", f"127.0.0.1:{self.port}", "-op", point.op]
        words += ["-clients", str(point.clients), "-connections", str(point.connections)]
        words += ["-warmup", f"{warm_up_seconds}s", "-time", f"{seconds}s"]
        return await load_with([str(self.load), *words], self.name, self.servers, point, warm_up_seconds, seconds)


@contextmanager
def redis(directory: Path, load: Path) -> Generator[_Redis]:
    """A primary that its replica follows, both of them done with making their files."""
    primary, replica = free_ports(2)
    commands: list[list[str]] = []
    for name, port in (("primary", primary), ("replica", replica)):
        (directory / name).mkdir()
        words = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory / name), "--save", ""]
        words += ["--appendonly", "yes", "--appendfsync", "always"]
        words += [] if name == "primary" else ["--replicaof", "127.0.0.1", str(primary)]
        commands.append(["redis-server", *words])
    with running(directory, commands) as pids:
        wait_until(lambda: _follows(primary) and _keeps_a_file(primary) and _keeps_a_file(replica), "Redis")
        yield _Redis(load, primary, pids)


def _follows(primary: int) -> bool:
    return b"state=online" in _info(primary, b"replication")


def _keeps_a_file(port: int) -> bool:
    """Not so while a replica writes its first one, from what the primary gave it."""
    said = _info(port, b"persistence")
    return all(words in said for words in (b"aof_enabled:1", b"aof_rewrite_in_progress:0", b"aof_rewrite_scheduled:0"))


def _info(port: int, section: bytes) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"INFO " + section + b"\r\n")
            return connection.recv(1 << 16)
    except OSError:
        return b""
