"""`trio-pb log`: what a data directory holds besides checkpoints, whether it is intact, and its ops one by one."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.table import Table

from trio_pb.cli.offline import Directory, is_in_use
from trio_pb.cli.output import ExitCode, Flag, new_table, print_json, print_table
from trio_pb.core.durable import Superblock
from trio_pb.core.prepare import OrderedRequest, Prepare, PrepareId, PrepareKind
from trio_pb.core.recovery import Recovered
from trio_pb.driver.read_only_disk import ReadOnlyDisk
from trio_pb.errors import ConfigError, RemoteProtocolError
from trio_pb.storage.damage import ACTIONS, Finding, find_damage
from trio_pb.storage.disk import run
from trio_pb.storage.inspect import SegmentSurvey, Survey, read_prepare, survey

__all__ = ["app", "finding_fields", "print_findings", "right", "survey_directory"]

app = App(name="log", help="Read what a replica has on disk, offline.")

DIGITS = 12  # Of a checksum or client, where people read it.


@app.command
def inspect(directory: Directory, /, *, json: Flag = False) -> int:
    """Show what the files of a data directory hold.

    Nothing is changed, and no lock is taken. Exit code 4 if a replica would not start on it.

    Args:
        directory: Data directory of a replica, best one that is stopped.
        json: Print one JSON object.
    """
    found = survey_directory(directory)
    if json:
        print_json(_survey_fields(directory, found))
    else:
        _print_survey(directory, found)
    return ExitCode.OK if found.recovered is not None else ExitCode.LOST


@app.command
def verify(directory: Directory, /, *, json: Flag = False) -> int:
    """Check every copy, page and record, and say what a replica would do about each damaged one.

    Nothing is changed. Exit code 1 if anything is damaged, 4 if a replica would not start on it.

    Args:
        directory: Data directory of a replica, best one that is stopped.
        json: Print one JSON object.
    """
    found = survey_directory(directory)
    findings = find_damage(found)
    if json:
        print_json(
            {
                "directory": str(directory),
                "intact": not findings,
                "would_start": found.recovered is not None,
                "refusal": found.refusal or None,
                "unidentified": found.unidentified,
                "damage": [finding_fields(finding) for finding in findings],
            }
        )
    else:
        print_findings(findings)
        _print_outcome(found, findings)
    if found.recovered is None:
        return ExitCode.LOST
    return ExitCode.FAILED if findings else ExitCode.OK


@app.command
def dump(
    directory: Directory,
    /,
    *,
    from_: Annotated[int | None, Parameter(name="--from", metavar="OP")] = None,
    to: Annotated[int | None, Parameter(metavar="OP")] = None,
    json: Flag = False,
) -> int:
    """List the ops of the log, each on a line of its own, with the requests that it orders.

    Ops that are damaged or missing are named in their place, and make the exit code 1. If a replica would not
    start on this directory, which records belong to its log is unknown: all are listed, and the exit code is 4.

    Args:
        directory: Data directory of a replica, best one that is stopped.
        from_: First op. By default the first of the log.
        to: Last op. By default the last of the log.
        json: Print one JSON object per op.
    """
    if from_ is not None and from_ < 0:
        raise ConfigError(f"--from {from_}: an op is not negative")
    if to is not None and to < (from_ or 0):
        raise ConfigError(f"--to {to}: must not be below --from, {from_ or 0}")
    found = survey_directory(directory)
    disk = ReadOnlyDisk(directory)
    records = found.records
    lost_at = {op: finding for finding in find_damage(found) for op in finding.ops}
    is_whole = True
    if not json:
        print(f"{'op':>8}  {'view':>5}  {'checksum':<{DIGITS}}  {'time (UTC)':<29}  requests")
    for op, checksum in _ops(found, from_, to):
        record = None if checksum is None else records.get(PrepareId(op, checksum))
        prepare = None if record is None else run(disk, read_prepare(record, found.identity))
        is_whole = is_whole and prepare is not None
        if json:
            print_json(_op_fields(op, checksum, prepare, lost_at.get(op)))
        elif prepare is None:
            print(f"{op:>8}  {'-':>5}  {_short(checksum):<{DIGITS}}  {_where_lost(lost_at.get(op))}")
        else:
            time = _format_time(prepare.timestamp)
            print(f"{op:>8}  {prepare.view:>5}  {_short(checksum):<{DIGITS}}  {time:<29}  {_requests(prepare)}")
    if found.recovered is None:
        print(f"trio-pb: a replica would not start here: {found.refusal}", file=sys.stderr)
        return ExitCode.LOST
    return ExitCode.OK if is_whole else ExitCode.FAILED


def survey_directory(directory: Path) -> Survey:
    """Read a directory; says on stderr when a replica is at work in it.

    Raises:
        DataDirectoryError: it is not a data directory, or its identity is lost.
    """
    disk = ReadOnlyDisk(directory)
    if is_in_use(directory):
        print(
            f"trio-pb: {directory} is in use: it changes while it is read, and what looks damaged near the end of "
            "the log may be a write under way",
            file=sys.stderr,
        )
    return run(disk, survey())


# --- Findings -------------------------------------------------------------------------------------


def finding_fields(finding: Finding) -> dict[str, object]:
    """What `--json` prints of one damaged place."""
    return {
        "file": finding.file,
        "offset": finding.offset,
        "size": finding.size,
        "what": finding.what,
        "verdict": str(finding.verdict),
        "action": ACTIONS[finding.verdict],
        "ops": list(finding.ops),
    }


def print_findings(findings: Iterable[Finding]) -> None:
    """A line for each damaged place; below them what the verdicts mean."""
    findings = tuple(findings)
    if not findings:
        return
    table = right(new_table("file", "offset", "bytes", "verdict", "damage"), 1, 2)
    for finding in findings:
        offset = "-" if finding.offset is None else str(finding.offset)
        table.add_row(finding.file, offset, str(finding.size or "-"), str(finding.verdict), finding.what)
    print_table(table)
    print()
    meanings = right(new_table("verdict", "what a replica does"))
    for verdict in ACTIONS:
        if any(finding.verdict is verdict for finding in findings):
            meanings.add_row(str(verdict), ACTIONS[verdict])
    print_table(meanings)
    print()


def _print_outcome(found: Survey, findings: tuple[Finding, ...]) -> None:
    records = sum(len(segment.records) for segment in found.segments)
    if not findings:
        print(
            f"All intact: {_count(len(found.superblock), 'superblock copy', 'superblock copies')}, "
            f"{_count(len(found.proofs), 'proof copy', 'proof copies')}, {_count(records, 'record', 'records')} in "
            f"{_count(len(found.segments), 'segment', 'segments')}."
        )
    else:
        damaged = _count(len(findings), "damaged place", "damaged places")
        print(f"{damaged}; {_count(records, 'record', 'records')} intact.")
    if found.refusal:
        print(f"A replica would NOT start here: {found.refusal}.")
    elif found.recovered is not None:
        if found.unidentified:
            ops = _count(found.unidentified, "op", "ops")
            print(f"The peers have to confirm the identity of {ops}: damage above hides it.")
        if found.recovered.found:
            print(
                f"Appended again by a start: {_count(found.recovered.found, 'record', 'records')} above the last proof."
            )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


# --- Inspect --------------------------------------------------------------------------------------


def _survey_fields(directory: Path, found: Survey) -> dict[str, object]:
    identity = found.identity
    return {
        "directory": str(directory),
        "cluster": identity.cluster.hex(),
        "replica": identity.replica,
        "incarnation": identity.incarnation.hex(),
        "identity_copies": [{"offset": copy.offset, "intact": copy.is_intact} for copy in found.identity_copies],
        "superblock": {
            "image": None if found.image is None else _image_fields(found.image),
            "sequence": found.image_sequence,
            "copies": [
                {"offset": copy.offset, "state": str(copy.state), "sequence": copy.sequence if copy.image else None}
                for copy in found.superblock
            ],
        },
        "proofs": {
            "newest": None if found.proof is None else found.proof.sequence,
            "copies": [
                {
                    "slot": copy.slot,
                    "copy": copy.copy,
                    "offset": copy.offset,
                    "state": str(copy.state),
                    "sequence": copy.proof and copy.proof.sequence,
                    "log_view": copy.proof and copy.proof.log_view,
                    "acked": copy.proof and copy.proof.acked,
                    "commit": copy.proof and copy.proof.commit.op,
                }
                for copy in found.proofs
            ],
        },
        "segments": [_segment_fields(segment) for segment in found.segments],
        "strangers": list(found.strangers),
        "would_start": found.recovered is not None,
        "refusal": found.refusal or None,
        "log": None if found.recovered is None else _log_fields(found, found.recovered),
    }


def _image_fields(image: Superblock) -> dict[str, object]:
    return {
        "boot": image.boot,
        "born": image.born,
        "view": image.view,
        "log_view": image.log_view,
        "install": {"base": image.install.base.op, "head": image.install.head, "ack_floor": image.install.ack_floor},
        "commit": image.commit.op,
        "epoch": image.configuration.epoch,
        "voters": list(image.configuration.voters),
        "standbys": list(image.configuration.standbys),
        "pinned": [replica for replica, _ in image.pinned],
        "checkpoint": {"op": image.checkpoint.op, "digest": image.checkpoint.digest.hex()},
        "certified": {"op": image.certified.op, "digest": image.certified.digest.hex()},
        "untrusted": image.untrusted,
        "retired": image.retired,
    }


def _segment_fields(segment: SegmentSurvey) -> dict[str, object]:
    ops = [record.header.op for record in segment.records]
    return {
        "file": segment.segment.file,
        "number": segment.segment.number,
        "boot": segment.segment.boot,
        "size": segment.size,
        "used": segment.used,
        "records": len(segment.records),
        "damaged_bytes": sum(gap.size for gap in segment.gaps),
        "first_op": min(ops, default=None),
        "last_op": max(ops, default=None),
    }


def _log_fields(found: Survey, recovered: Recovered) -> dict[str, object]:
    return {
        "status": recovered.status.name.lower(),
        "base": recovered.log.base.op,
        "head": recovered.log.head,
        "acked": recovered.acked,
        "proven": recovered.proven,
        "commit": recovered.commit_max,
        "unreadable": sum(op <= recovered.acked for op in found.missing),
        "unidentified": found.unidentified,
        "append_again": recovered.found,
    }


def _print_survey(directory: Path, found: Survey) -> None:
    identity = found.identity
    print(f"{directory}: replica {identity.replica} of cluster {identity.cluster.hex()}")
    print(f"incarnation {identity.incarnation.hex()}")
    _print_section("superblock", _image_words(found))
    table = right(new_table("copy", "offset", "state", "image"), 0, 1, 3)
    for index, copy in enumerate(found.superblock):
        table.add_row(str(index), str(copy.offset), str(copy.state), str(copy.sequence) if copy.image else "-")
    print_table(table)
    _print_section("proofs", _proof_words(found))
    table = right(
        new_table("slot", "copy", "offset", "state", "sequence", "log view", "acked", "commit"), 0, 1, 2, 4, 5, 6, 7
    )
    for it in found.proofs:
        said = ["-"] * 4
        if it.proof is not None:
            said = [str(n) for n in (it.proof.sequence, it.proof.log_view, it.proof.acked, it.proof.commit.op)]
        table.add_row(str(it.slot), str(it.copy), str(it.offset), str(it.state), *said)
    print_table(table)
    _print_section("segments", "" if found.segments else "none")
    if found.segments:
        table = right(new_table("file", "boot", "bytes", "used", "records", "damaged", "ops"), 1, 2, 3, 4, 5)
        for segment in found.segments:
            table.add_row(*_segment_row(segment))
        print_table(table)
    for file in found.strangers:
        print(f"{file}: no file of the log; it is ignored")
    _print_section("log", "as a start would find it")
    if found.recovered is None:
        print(f"A replica would NOT start here: {found.refusal}.")
        return
    fields = _log_fields(found, found.recovered)
    table = right(new_table(*(name.replace("_", " ") for name in fields)), *range(1, len(fields)))
    table.add_row(*(str(value).replace("_", " ") for value in fields.values()))
    print_table(table)


def _print_section(name: str, words: str) -> None:
    print()
    print(f"{name}: {words}" if words else name)


def _image_words(found: Survey) -> str:
    image = found.image
    if image is None:
        return "no image that two copies agree on"
    words = [f"boot {image.boot}", f"view {image.view}", f"log view {image.log_view}", f"commit {image.commit.op}"]
    words.append(f"voters {' '.join(map(str, image.configuration.voters))}")
    words.append(f"checkpoint {image.checkpoint.op or 'none'}")
    marks = [name for name, is_so in (("untrusted", image.untrusted), ("retired", image.retired)) if is_so]
    return ", ".join([*words, *marks] if image.born else [*words, "not born yet", *marks])


def _proof_words(found: Survey) -> str:
    if found.proof is None:
        return "none is intact"
    return f"acknowledged up to op {found.proof.acked}" if found.proof.acked else "nothing acknowledged yet"


def _segment_row(segment: SegmentSurvey) -> list[str]:
    fields = _segment_fields(segment)
    ops = "-" if fields["first_op"] is None else f"{fields['first_op']} to {fields['last_op']}"
    return [*(str(fields[name]) for name in ("file", "boot", "size", "used", "records", "damaged_bytes")), ops]


def right(table: Table, *columns: int) -> Table:
    """Set these columns, which hold numbers, flush right."""
    for column in columns:
        table.columns[column].justify = "right"
    return table


# --- Dump -----------------------------------------------------------------------------------------


def _ops(found: Survey, first: int | None, last: int | None) -> list[tuple[int, bytes | None]]:
    """Op and checksum of what is to be listed."""
    if found.recovered is None:
        listed: list[tuple[int, bytes | None]] = sorted(found.records)
    else:
        listed = list(found.ops.items())
    return [it for it in listed if (first is None or it[0] >= first) and (last is None or it[0] <= last)]


def _op_fields(op: int, checksum: bytes | None, prepare: Prepare | None, lost: Finding | None) -> dict[str, object]:
    fields: dict[str, object] = {"op": op, "checksum": None if checksum is None else checksum.hex()}
    if prepare is None:
        return {**fields, "intact": False, "damage": None if lost is None else finding_fields(lost)}
    return {
        **fields,
        "intact": True,
        "view": prepare.view,
        "parent": prepare.parent.hex(),
        "commit": prepare.commit,
        "timestamp": prepare.timestamp,
        "kind": prepare.kind.name.lower(),
        "release": prepare.release,
        "payload_size": len(prepare.payload),
        "requests": [
            {
                "client": request.client.hex(),
                "session": request.session,
                "number": request.number,
                "code": request.code,
                "body_size": len(request.body),
            }
            for request in _requests_of(prepare)
        ],
    }


def _requests_of(prepare: Prepare) -> tuple[OrderedRequest, ...]:
    """Requests of a batch; nothing for other kinds, or when the payload is none."""
    if prepare.kind is not PrepareKind.BATCH:
        return ()
    try:
        return prepare.requests()
    except RemoteProtocolError:
        return ()


def _requests(prepare: Prepare) -> str:
    if prepare.kind is not PrepareKind.BATCH:
        return f"{prepare.kind.name.lower()}, {len(prepare.payload)} bytes"
    requests = _requests_of(prepare)
    if len(requests) != prepare.count:
        return "the payload is no batch of requests"
    return ", ".join(
        f"{_short(it.client)}/{it.session}#{it.number} code {it.code} {len(it.body)} bytes" for it in requests
    )


def _where_lost(finding: Finding | None) -> str:
    if finding is None:
        return "unreadable"
    place = finding.file if finding.offset is None else f"{finding.file} offset {finding.offset}"
    return f"unreadable, {finding.verdict}: {place}: {finding.what}"


def _format_time(timestamp: int) -> str:
    seconds, nanoseconds = divmod(timestamp, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}"


def _short(data: bytes | None) -> str:
    return "-" if data is None else data.hex()[:DIGITS]
