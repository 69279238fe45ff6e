"""One replica: format its directory, start it, ask where it stands."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from trio_pb import __version__
from trio_pb.app.orders import Orders
from trio_pb.cli.output import ExitCode, new_table, print_json, screen
from trio_pb.codec.wire import WIRE_VERSION
from trio_pb.core.messages import StatusReport
from trio_pb.driver.addresses import parse_address
from trio_pb.driver.server import ServerInfo, serve
from trio_pb.errors import ConfigError
from trio_pb.storage.page import DATA_FORMAT
from trio_pb.testbed.formatting import cluster_id, format_replica
from trio_pb.testbed.status import ask_status

__all__ = ["format_command", "parse_peers", "run_replica", "start", "status", "status_fields", "version"]

DEFAULT_ADDRESS = "127.0.0.1:7400"
SEGMENT_MIB = 64
STATUS_SECONDS_MAX = 2.0


def format_command(
    directory: Path,
    *,
    cluster: str,
    replica: int,
    replicas: int,
    segment_mib: int = SEGMENT_MIB,
    json: bool = False,
) -> None:
    """Make DIR the data directory of a new replica; the only way to make one.

    Args:
        directory: a directory that is empty or does not exist yet.
        cluster: name of the cluster, any text; the same for all its replicas.
        replica: number of this replica, 0 to REPLICAS - 1.
        replicas: how many replicas the cluster has, 1 to 7.
        segment_mib: size of the first file of the log, in MiB.
        json: print one JSON object.
    """
    if replicas < 1:
        raise ConfigError(f"--replicas {replicas}: a cluster has at least one")
    _check_segment(segment_mib)
    identity = cluster_id(cluster)
    format_replica(
        directory, cluster=identity, replica=replica, members=range(replicas), segment_size=segment_mib << 20
    )
    if json:
        print_json({"directory": str(directory), "cluster": identity.hex(), "replica": replica, "replicas": replicas})
    else:
        print(f"{directory}: replica {replica} of {replicas}, cluster {identity.hex()}")


async def start(
    directory: Path,
    *,
    listen: str = DEFAULT_ADDRESS,
    advertise: str | None = None,
    peers: Annotated[list[str], Parameter(consume_multiple=True, negative=())],
    segment_mib: int = SEGMENT_MIB,
    stop_with_parent: Annotated[bool, Parameter(negative=())] = False,
    json: bool = False,
) -> None:
    """Run the replica whose data is in DIR; SIGTERM or Ctrl-C stops it in good order.

    Args:
        directory: made by `trio-pb format`.
        listen: HOST:PORT to listen on; port 0 takes a free one.
        advertise: HOST:PORT at which the others and clients reach it; by default what it listens on.
        peers: ID=HOST:PORT of each replica of the cluster; its own entry may be among them.
        segment_mib: size of a file of the log, in MiB.
        stop_with_parent: stop when standard input ends, so as not to outlive whoever started us.
        json: print one JSON object when it is ready.
    """
    _check_segment(segment_mib)
    members = parse_peers(peers)
    await run_replica(
        directory,
        listen=listen,
        advertise=advertise,
        peers=members,
        segment_mib=segment_mib,
        stop_with_parent=stop_with_parent,
        json=json,
    )


async def run_replica(
    directory: Path,
    *,
    listen: str,
    advertise: str | None,
    peers: dict[int, str],
    segment_mib: int = SEGMENT_MIB,
    stop_with_parent: bool = False,
    json: bool = False,
) -> None:
    """Run a replica of the laptop orders until it is asked to stop; says on stdout when it is ready."""
    async with trio.open_nursery() as nursery:

        async def serve_to_the_end(task_status: trio.TaskStatus[ServerInfo]) -> None:
            await serve(
                directory,
                machine=Orders(),
                listen=listen,
                advertise=advertise,
                peers=peers,
                segment_size=segment_mib << 20,
                handle_signals=True,
                task_status=task_status,
            )
            nursery.cancel_scope.cancel()

        info: ServerInfo = await nursery.start(serve_to_the_end)
        if json:
            fields = {"replica": info.replica, "cluster": info.cluster.hex(), "host": info.host, "port": info.port}
            print_json({**fields, "address": info.address, "pid": os.getpid()})
        else:
            print(f"replica {info.replica} listens on {info.host}:{info.port}, advertised as {info.address}")
        sys.stdout.flush()
        if stop_with_parent:
            await _end_of_input()
            info.stop()


async def _end_of_input() -> None:
    """Return when nobody holds the other end of our standard input any more."""
    while True:
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        if not os.read(sys.stdin.fileno(), 4096):
            return


async def status(
    addresses: Annotated[list[str] | None, Parameter(negative=())] = None,
    /,
    *,
    json: bool = False,
) -> int:
    """Show where each replica stands, asking each one itself.

    Exit code 3 if one of them does not answer.

    Args:
        addresses: HOST:PORT of replicas; by default 127.0.0.1:7400.
        json: print one JSON object.
    """
    asked = addresses or [DEFAULT_ADDRESS]
    for address in asked:
        parse_address(address)
    answers: dict[str, StatusReport | None] = {}

    async def ask(address: str) -> None:
        answers[address] = await ask_status(address, STATUS_SECONDS_MAX)

    async with trio.open_nursery() as nursery:
        for address in asked:
            nursery.start_soon(ask, address)
    if json:
        print_json({"replicas": [status_fields(address, answers[address]) for address in asked]})
    else:
        table = new_table("address", "replica", "status", "role", "view", "head", "commit", "applied", "state digest")
        for address in asked:
            table.add_row(*_row(address, answers[address]))
        screen().print(table)
    return ExitCode.OK if all(answers.values()) else ExitCode.UNAVAILABLE


def status_fields(address: str, report: StatusReport | None) -> dict[str, object]:
    """What `--json` prints of one replica."""
    if report is None:
        return {"address": address, "answered": False}
    return {
        "address": address,
        "answered": True,
        "replica": report.replica,
        "status": report.status.name.lower(),
        "is_primary": report.is_primary,
        "view": report.view,
        "log_view": report.log_view,
        "head": report.head,
        "commit": report.commit,
        "applied": report.applied,
        "state_op": report.state_op,
        "state_digest": report.state_digest.hex(),
        "peers": [{"replica": peer, "alive": alive, "applied": applied} for peer, alive, applied in report.peers],
        "counters": dict(report.counters),
    }


def _row(address: str, report: StatusReport | None) -> list[str]:
    if report is None:
        return [address, "?", "no answer", *[""] * 6]
    role = "primary" if report.is_primary else "backup"
    positions = (report.view, report.head, report.commit, report.applied)
    digest = f"{report.state_digest.hex()[:16]} at {report.state_op}"
    return [address, str(report.replica), report.status.name.lower(), role, *map(str, positions), digest]


def version(*, json: bool = False) -> None:
    """Show the versions of the program, of the wire and of data directories.

    Args:
        json: print one JSON object.
    """
    if json:
        print_json({"trio_pb": __version__, "wire": WIRE_VERSION, "data": DATA_FORMAT})
    else:
        print(f"trio-pb {__version__} (wire {WIRE_VERSION}, data {DATA_FORMAT})")


def parse_peers(entries: list[str]) -> dict[int, str]:
    """Read ID=HOST:PORT entries.

    Raises:
        ConfigError: an entry is malformed or an id stands there twice.
    """
    peers: dict[int, str] = {}
    for entry in entries:
        number, equals, address = entry.partition("=")
        if not equals or not number.isascii() or not number.isdigit():
            raise ConfigError(f"--peers {entry!r}: write ID=HOST:PORT, like 1=127.0.0.1:7401")
        parse_address(address)
        if int(number) in peers:
            raise ConfigError(f"--peers: replica {int(number)} is named twice")
        peers[int(number)] = address
    return peers


def _check_segment(segment_mib: int) -> None:
    if not 1 <= segment_mib <= 1024:
        raise ConfigError(f"--segment-mib {segment_mib}: must be 1 to 1024")
