"""Programs of other systems: started in a directory of their own, ended whatever happens; and the load on them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.peers.points import Found, Point
from trio_pb.errors import TrioPbError
from trio_pb.testbed.load.usage import UsageMeter

__all__ = ["PeerError", "build_load", "free_ports", "load_with", "running", "wait_until"]

START_SECONDS_MAX = 30.0
END_SECONDS_MAX = 10.0
SLACK_SECONDS = 30.0
GO_SOURCES = "/usr/share/gocode"  # Where Debian's golang-etcd-server-dev puts the client of etcd.


class PeerError(TrioPbError):
    """Another system could not be started or asked; the message says what it said."""

    code = "peer"


@contextmanager
def running(directory: Path, commands: Sequence[Sequence[str]]) -> Generator[list[int]]:
    """Programs until the end of the block; their process ids."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate(commands):
            with (directory / f"{number}.log").open("wb") as log:
                processes.append(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory)
                )
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait(END_SECONDS_MAX)


def wait_until(is_ready: Callable[[], bool], what: str) -> None:
    """Wait for a system that starts.

    Raises:
        PeerError: it does not in time.
    """
    end = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < end:
        if is_ready():
            return
        time.sleep(0.05)
    raise PeerError(f"{what} is not ready after {START_SECONDS_MAX:.0f} s")


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody uses now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [it.getsockname()[1] for it in sockets]
    for it in sockets:
        it.close()
    return ports


def build_load(directory: Path) -> Path:
    """Compile the load on etcd and Redis.

    Raises:
        PeerError: the compiler, or the client of etcd, is missing.
    """
    program = directory / "load"
    environment = {
        "GO111MODULE": "off",
        "GOPATH": GO_SOURCES,
        "GOFLAGS": "-trimpath",
        "GOCACHE": str(directory / "cache"),
    }
    built = subprocess.run(
        ["go", "build", "-o", str(program), "."],
        cwd=Path(__file__).parent / "load",
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise PeerError(f"the load for etcd and Redis does not compile\n{built.stderr}")
    return program


def load_with(
    command: Sequence[str], system: str, servers: Sequence[int], point: Point, warm_up: float, seconds: float
) -> Found:
    """Run a program that makes a load and prints what it saw; measure what it and the servers take meanwhile.

    Raises:
        PeerError: it failed.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            time.sleep(warm_up)
            watched = [(f"server {number}", pid) for number, pid in enumerate(servers)]
            meter = UsageMeter([*watched, ("load", process.pid)])
            time.sleep(max(0.0, seconds - 0.2))  # It ends by itself soon after.
            usage = meter.read()
            said, errors = process.communicate(timeout=SLACK_SECONDS)
        finally:
            process.kill()
    if process.returncode:
        raise PeerError(f"{system}, {point}: {errors.decode().strip()}")
    figures: Any = json.loads(said)
    answers = figures["per_second"] * usage.seconds
    spent = sum(cpu for name, cpu in usage.cpu_seconds.items() if name != "load")
    return Found(
        system=system,
        point=point,
        per_second=figures["per_second"],
        p50_ms=figures["p50"],
        p99_ms=figures["p99"],
        servers_cpu_us=1e6 * spent / answers if answers else 0.0,
        load_cpu_us=1e6 * usage.cpu_seconds["load"] / answers if answers else 0.0,
        others_cores=usage.others_cores,
        is_quiet=usage.is_quiet,
    )
