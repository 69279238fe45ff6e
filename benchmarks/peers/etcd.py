"""Three etcd servers, as Debian ships them, on their defaults."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from benchmarks.peers.points import Found, Point
from benchmarks.peers.program import free_ports, load_with, running, wait_until

__all__ = ["etcd"]

SERVERS = 3


@attrs.frozen
class _Etcd:
    load: Path
    endpoints: str
    servers: Sequence[int]
    name: str = "etcd"

    def can(self, point: Point) -> bool:
        return True

    async def measure(self, point: Point, warm_up_seconds: float, seconds: float) -> Found:
        words = ["-system", "etcd", "-endpoints", self.endpoints, "-op", point.op]
        words += ["-clients", str(point.clients), "-connections", str(point.connections)]
        words += ["-warmup", f"{warm_up_seconds}s", "-time", f"{seconds}s"]
        return await load_with([str(self.load), *words], self.name, self.servers, point, warm_up_seconds, seconds)


@contextmanager
def etcd(directory: Path, load: Path) -> Generator[_Etcd]:
    """A cluster that has a leader."""
    ports = free_ports(2 * SERVERS)
    clients, peers = ports[:SERVERS], ports[SERVERS:]
    cluster = ",".join(f"s{number}=http://127.0.0.1:{port}" for number, port in enumerate(peers))
    commands = [
        [
            "etcd",
            *("--name", f"s{number}", "--data-dir", str(directory / f"s{number}")),
            *("--listen-client-urls", f"http://127.0.0.1:{clients[number]}"),
            *("--advertise-client-urls", f"http://127.0.0.1:{clients[number]}"),
            *("--listen-peer-urls", f"http://127.0.0.1:{peers[number]}"),
            *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peers[number]}"),
            *("--initial-cluster", cluster, "--logger", "zap", "--log-level", "warn"),
        ]
        for number in range(SERVERS)
    ]
    with running(directory, commands) as pids:
        wait_until(lambda: all(_is_healthy(port) for port in clients), "etcd")
        yield _Etcd(load, ",".join(f"127.0.0.1:{port}" for port in clients), pids)


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return b'"true"' in answer.read()
    except (OSError, urllib.error.URLError):
        return False
