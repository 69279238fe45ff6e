"""Programs of other systems: started in a directory of their own, ended whatever happens; and the load on them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

from benchmarks.peers.points import Found, Point
from trio_pb.errors import TrioPbError
from trio_pb.testbed.load.process import load_processes
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


async def load_with(
    command: Sequence[str], system: str, servers: Sequence[int], point: Point, warm_up_seconds: float, seconds: float
) -> Found:
    """Run a program that makes a load and says what it saw; measure what it and the servers take meanwhile.

    Raises:
        LoadError: it failed; what it says about that goes to our standard error.
    """
    async with load_processes(command, [b""]) as (process,):
        await process.begin()  # It is connected: both windows begin now.
        await trio.sleep(warm_up_seconds)
        watched = [(f"server {number}", pid) for number, pid in enumerate(servers)]
        meter = UsageMeter([*watched, ("load", process.pid)])
        await trio.sleep(seconds)
        usage = meter.read()
        figures = await process.result(SLACK_SECONDS)
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
