"""One replica: format its directory, start it, ask where it stands."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import trio
from cyclopts import Parameter

from trio_pb import __version__
from trio_pb.app.orders import Orders
from trio_pb.cli.config_file import CONFIG_FILE, StartConfig, parse_replica, read_config
from trio_pb.cli.output import ExitCode, Flag, new_table, print_json, print_table
from trio_pb.codec.wire import WIRE_VERSION
from trio_pb.core.messages import Status, StatusReport
from trio_pb.driver.addresses import format_address, parse_address
from trio_pb.driver.collector import spare_the_loop
from trio_pb.driver.file_disk import FileDisk
from trio_pb.driver.reception import CERTIFIED_OP, CHECKPOINT_OP, LOG_LOW, UNFIT_PREFIX
from trio_pb.driver.server import ServerInfo, limits_of, serve
from trio_pb.driver.signals import end_of_input
from trio_pb.errors import ConfigError
from trio_pb.storage.page import DATA_FORMAT
from trio_pb.testbed.formatting import cluster_id, format_replica
from trio_pb.testbed.status import ask_greeting, ask_status

__all__ = ["format_command", "parse_peers", "run_replica", "start", "status", "status_fields", "version"]

DEFAULT_ADDRESS = "127.0.0.1:7400"
SEGMENT_MIB = 64
STATUS_SECONDS_MAX = 2.0
SILENCE_SECONDS = 5.0  # Without a word from any other replica, before we say what we know of each.

_POSITIONS = ("head", "commit", "applied", "checkpoint", "certified", "log from")

# Of a status report: what a replica had to do about its disk.
REPAIR_COUNTERS = (
    "superblock_copies_damaged",
    "proof_copies_damaged",
    "records_damaged",
    "records_repaired",
    "chunks_damaged",
    "chunks_repaired",
    "checkpoint_lost",
    "state_lost",
    "diverged",
    "state_transferred",
    "checkpoint_failed",
    "disk_full",
    "rejected_disk_full",
)

Directory: TypeAlias = Annotated[Path, Parameter(name="DIR")]


def format_command(
    directory: Directory,
    /,
    *,
    cluster: Annotated[str, Parameter(metavar="NAME")],
    replica: Annotated[int, Parameter(metavar="N")],
    replicas: Annotated[int, Parameter(metavar="M")],
    segment_mib: Annotated[int, Parameter(metavar="MIB")] = SEGMENT_MIB,
    json: Flag = False,
) -> None:
    """Make the data directory of a new replica.

    This is the only way to make one. A replica whose directory was lost must not be formatted again
    under its old number: the others refuse it for ever.

    Args:
        directory: A directory that is empty or does not exist yet.
        cluster: Name of the cluster, any text; the same for all its replicas.
        replica: Number of this replica, 0 to M - 1.
        replicas: How many replicas the cluster has, 1 to 7.
        segment_mib: Size of the first file of the log, in MiB, 1 to 1024.
        json: Print one JSON object.
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
    directory: Directory,
    /,
    *,
    listen: Annotated[str | None, Parameter(metavar="HOST:PORT")] = None,
    advertise: Annotated[str | None, Parameter(metavar="HOST:PORT")] = None,
    peers: Annotated[list[str] | None, Parameter(consume_multiple=True, metavar="ID=HOST:PORT")] = None,
    config: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    segment_mib: Annotated[int, Parameter(metavar="MIB")] = SEGMENT_MIB,
    checkpoint_interval: Annotated[int | None, Parameter(metavar="OPS")] = None,
    stop_with_parent: Flag = False,
    json: Flag = False,
) -> None:
    """Run a replica until SIGTERM or Ctrl-C.

    Prints one line when it is ready. The first signal stops it in good order: a primary hands over
    first. A second one ends it at once. What is not given as a flag is looked up in trio-pb.toml.

    Args:
        directory: Data directory, made by `trio-pb format`.
        listen: Where to listen; port 0 takes a free one. By default 127.0.0.1:7400.
        advertise: Where the others and clients reach it. By default its entry in the peers, else what it listens on.
        peers: Every replica of the cluster; its own entry may be among them.
        config: File with the keys listen, advertise, checkpoint-interval and peers; flags win over it. By default
            DIR/trio-pb.toml, if there is one.
        segment_mib: Size of a new file of the log, in MiB, 1 to 1024.
        checkpoint_interval: Ops from one checkpoint to the next, 32 to 65536; the log keeps four times as many.
            The same for all replicas of a cluster. By default 1024.
        stop_with_parent: Stop when standard input ends, so as not to outlive whoever started us.
        json: Print one JSON object when it is ready.
    """
    _check_segment(segment_mib)
    members = None if peers is None else parse_peers(peers)
    FileDisk(directory).close()  # First: a wrong directory explains whatever else is amiss.
    settings = _find_config(directory, config)
    if members is None:
        members = settings.peers
    if members is None:
        raise ConfigError(
            "no peers: name every replica of the cluster with --peers ID=HOST:PORT ..., or in the table [peers] of "
            f"{config or directory / CONFIG_FILE}"
        )
    await run_replica(
        directory,
        listen=listen or settings.listen or DEFAULT_ADDRESS,
        advertise=advertise or settings.advertise,
        peers=members,
        segment_mib=segment_mib,
        checkpoint_interval=checkpoint_interval or settings.checkpoint_interval,
        stop_with_parent=stop_with_parent,
        json=json,
    )


def _find_config(directory: Path, named: Path | None) -> StartConfig:
    """What the file says that was named, or lies in the directory; nothing without one."""
    if named is not None:
        return read_config(named)
    path = directory / CONFIG_FILE
    return read_config(path) if path.exists() else StartConfig()


async def run_replica(
    directory: Path,
    *,
    listen: str,
    advertise: str | None,
    peers: dict[int, str],
    segment_mib: int = SEGMENT_MIB,
    checkpoint_interval: int | None = None,
    stop_with_parent: bool = False,
    json: bool = False,
) -> None:
    """Run a replica of the laptop orders until it is asked to stop; says on stdout when it is ready.

    Raises:
        ConfigError: an address or the interval makes no sense, or `peers` does not have the members of the cluster.
        DataDirectoryError, StorageError, ReplicaStoppedError: as `serve`.
    """
    limits = limits_of(checkpoint_interval)
    async with trio.open_nursery() as nursery:

        async def serve_to_the_end(task_status: trio.TaskStatus[ServerInfo]) -> None:
            await serve(
                directory,
                machine=Orders(),
                listen=listen,
                advertise=advertise,
                peers=peers,
                limits=limits,
                segment_size=segment_mib << 20,
                handle_signals=True,
                task_status=task_status,
            )
            nursery.cancel_scope.cancel()

        info: ServerInfo = await nursery.start(serve_to_the_end)
        _check_peers(info, peers)
        spare_the_loop()
        if json:
            fields = {"replica": info.replica, "cluster": info.cluster.hex(), "host": info.host, "port": info.port}
            print_json({**fields, "address": info.address, "pid": os.getpid()})
        else:
            listens = format_address(info.host, info.port)
            print(f"replica {info.replica} listens on {listens}, advertised as {info.address}, pid {os.getpid()}")
        sys.stdout.flush()
        nursery.start_soon(_explain_silence, info, peers)
        if stop_with_parent:
            await end_of_input()
            info.stop()


def _check_peers(info: ServerInfo, peers: dict[int, str]) -> None:
    """Compare with what the data directory knows: a peer that is left out would never be reached.

    Raises:
        ConfigError: a member is missing, or one is named that is none.
    """
    voters = info.report().configuration.voters
    names = ", ".join(map(str, voters))
    for voter in voters:
        if voter != info.replica and voter not in peers:
            raise ConfigError(f"peers: replica {voter} is missing; the replicas of this cluster are {names}")
    for peer in peers:
        if peer not in voters:
            raise ConfigError(f"peers: there is no replica {peer}; the replicas of this cluster are {names}")


async def _explain_silence(info: ServerInfo, peers: dict[int, str]) -> None:
    """Say once, on stderr, why we may be alone: a wrong address or directory looks like a network that is down."""
    await trio.sleep(SILENCE_SECONDS)
    others = {peer: address for peer, address in sorted(peers.items()) if peer != info.replica}
    report = info.report()
    if not others or any(alive for _peer, alive, _applied in report.peers):
        return
    unborn = report.status is Status.UNBORN
    if unborn:
        told = f"replica {info.replica} has not met its cluster yet; the first start needs all replicas at once:"
    else:
        told = f"replica {info.replica} has heard of no other replica for {SILENCE_SECONDS:.0f} s:"
    print(told, file=sys.stderr)
    for peer, address in others.items():
        print(f"  replica {peer} at {address}: {await _look_at(peer, address, info, unborn)}", file=sys.stderr)


async def _look_at(peer: int, address: str, info: ServerInfo, unborn: bool) -> str:
    """What a stranger finds at the address of a peer."""
    greeted = await ask_greeting(address, STATUS_SECONDS_MAX)
    if greeted is None:
        return "no answer"
    if greeted.cluster != info.cluster:
        return f"belongs to another cluster, {greeted.cluster.hex()}; ours is {info.cluster.hex()}"
    if greeted.replica != peer:
        return f"is replica {greeted.replica}, not {peer}"
    report = await ask_status(address, STATUS_SECONDS_MAX)
    if unborn and report is not None and report.status is not Status.UNBORN:
        return "takes part already; it never accepts a directory that was formatted anew under an old number"
    return "answers"


async def status(
    addresses: Annotated[list[str] | None, Parameter(name="HOST:PORT")] = None,
    /,
    *,
    json: Flag = False,
) -> int:
    """Show where each replica stands.

    Each replica is asked itself. Exit code 3 if one of them does not answer within 2 seconds.

    Args:
        addresses: Replicas to ask. By default 127.0.0.1:7400.
        json: Print one JSON object.
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
        table = new_table("address", "replica", "role", "view", *_POSITIONS, "state digest")
        for address in asked:
            table.add_row(*_row(address, answers[address]))
        print_table(table)
        for report in answers.values():
            if report is not None:
                _print_repairs(report)
    return ExitCode.OK if all(answers.values()) else ExitCode.UNAVAILABLE


def status_fields(address: str, report: StatusReport | None) -> dict[str, object]:
    """What `--json` prints of one replica."""
    if report is None:
        return {"address": address, "answered": False}
    counters = dict(report.counters)
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
        "checkpoint": counters.get(CHECKPOINT_OP, 0),
        "certified": counters.get(CERTIFIED_OP, 0),
        "log_low": counters.get(LOG_LOW, 0),
        "unfit": sorted(name.removeprefix(UNFIT_PREFIX) for name in counters if name.startswith(UNFIT_PREFIX)),
        "counters": counters,
    }


def _row(address: str, report: StatusReport | None) -> list[str]:
    if report is None:
        return [address, "-", "no answer", *["-"] * (2 + len(_POSITIONS))]
    if report.status is Status.NORMAL:
        role = "primary" if report.is_primary else "backup"
    else:
        role = report.status.name.lower().replace("_", " ")
    counters = dict(report.counters)
    reasons = sorted(name.removeprefix(UNFIT_PREFIX) for name in counters if name.startswith(UNFIT_PREFIX))
    if reasons:
        role += f" ({', '.join(reasons)})"
    kept = [counters.get(name, 0) for name in (CHECKPOINT_OP, CERTIFIED_OP, LOG_LOW)]
    positions = (report.view, report.head, report.commit, report.applied, *kept)
    digest = report.state_digest.hex()[:12]
    if report.state_op != report.applied:
        digest += f" at {report.state_op}"
    return [address, str(report.replica), role, *map(str, positions), digest]


def _print_repairs(report: StatusReport) -> None:
    """One line of what this boot found damaged, repaired or copied; nothing if there was nothing."""
    counters = dict(report.counters)
    told = [f"{counters[name]} {name.replace('_', ' ')}" for name in REPAIR_COUNTERS if counters.get(name)]
    if told:
        print(f"replica {report.replica} since its start: {', '.join(told)}")


def version(*, json: Flag = False) -> None:
    """Show the versions of program, wire and data.

    Args:
        json: Print one JSON object.
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
        replica = parse_replica(number)
        if not equals or replica is None:
            raise ConfigError(f"--peers {entry!r}: write ID=HOST:PORT, like 1=127.0.0.1:7401; an ID is 0 to 1023")
        parse_address(address)
        if replica in peers:
            raise ConfigError(f"--peers: replica {replica} is named twice")
        peers[replica] = address
    return peers


def _check_segment(segment_mib: int) -> None:
    if not 1 <= segment_mib <= 1024:
        raise ConfigError(f"--segment-mib {segment_mib}: must be 1 to 1024")
