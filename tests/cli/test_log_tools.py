"""Offline tools over a data directory that a real cluster wrote: what they find, and that they change nothing."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from tests.cli.conftest import ORDERS
from trio_pb.cli.main import call
from trio_pb.driver.file_disk import FileDisk
from trio_pb.driver.read_only_disk import ReadOnlyDisk
from trio_pb.errors import LocalProtocolError
from trio_pb.storage import proofs
from trio_pb.storage.disk import Write, run
from trio_pb.storage.inspect import read_prepare, survey
from trio_pb.storage.journal import encode_record
from trio_pb.storage.page import seal_page
from trio_pb.testbed.formatting import cluster_id, format_replica

OPS = 3 * (ORDERS + 1)
PAGE = 4096


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """Run a command with --json; its exit code and what it printed."""
    capsys.readouterr()
    code = call([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def snapshot(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of last change of every file."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return {str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Put bytes into a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_an_intact_directory(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything acknowledged is there, and a start would say so."""
    assert said(capsys, "log", "verify", str(data)) == (
        0,
        {"directory": str(data), "intact": True, "would_start": True, "refusal": None, "unidentified": 0, "damage": []},
    )
    code, found = said(capsys, "log", "inspect", str(data))
    assert code == 0
    assert {copy["state"] for copy in found["superblock"]["copies"]} == {"intact"}
    assert {copy["state"] for copy in found["proofs"]["copies"]} == {"intact"}
    log = found["log"]
    assert (log["status"], log["base"], log["head"], log["acked"], log["unreadable"]) == ("normal", 0, OPS, OPS, 0)
    first, second = found["segments"]
    assert (first["boot"], first["first_op"], first["last_op"], first["damaged_bytes"]) == (1, 1, first["records"], 0)
    assert (second["boot"], second["last_op"]) == (2, OPS)
    assert call(["log", "verify", str(data)]) == 0
    assert "All intact" in capsys.readouterr().out


def test_a_fresh_directory_is_intact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Slots of proofs that were never written are no damage."""
    format_replica(tmp_path / "d", cluster=cluster_id("c"), replica=0, members=range(3), segment_size=1 << 20)
    assert said(capsys, "log", "verify", str(tmp_path / "d"))[0] == 0
    assert call(["log", "dump", str(tmp_path / "d")]) == 0


@pytest.mark.parametrize("command", ["inspect", "verify", "dump"])
@pytest.mark.parametrize("as_json", [True, False])
def test_looking_changes_nothing(data: Path, command: str, as_json: bool) -> None:
    """Bytes, times and names of all files stay, of a damaged directory too."""
    overwrite(data / "superblock", 0, bytes(512))
    overwrite(data / "log/00000001-00000001", PAGE, b"?" * 512)
    before = snapshot(data)
    call(["log", command, str(data), *(["--json"] if as_json else [])])
    assert snapshot(data) == before


def test_the_disk_of_the_tools_writes_nothing(data: Path) -> None:
    """A job that would change something is refused, whatever it is."""
    with pytest.raises(LocalProtocolError, match="Write"):
        ReadOnlyDisk(data).do(Write("identity", 0, b"x"))


def test_dump_lists_every_op_with_its_requests(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, in order, chained by checksums."""
    assert call(["log", "dump", str(data), "--json"]) == 0
    ops = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [it["op"] for it in ops] == list(range(1, OPS + 1))
    assert all(below["checksum"] == it["parent"] for below, it in pairwise(ops))
    clients = [it["requests"][0]["client"] for it in ops]
    assert clients == [bytes([number]).hex() * 16 for number in (1, 2, 3) for _ in range(ORDERS + 1)]
    assert [it["requests"][0]["number"] for it in ops[: ORDERS + 1]] == list(range(ORDERS + 1))
    assert call(["log", "dump", str(data), "--from", "4", "--to", "5"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["op", "view", "checksum"]
    assert [line.split()[0] for line in lines] == ["4", "5"]
    assert ops[3]["checksum"][:12] in lines[0]
    assert "#3 code 2 23 bytes" not in lines[0]  # The body of an even order is longer.


def test_dump_names_what_is_lost_in_its_place(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged record keeps its line, with file and offset."""
    overwrite(data / "log/00000001-00000001", 2 * PAGE + 512, b"?" * 8)  # The payload of the third record.
    assert call(["log", "dump", str(data), "--from", "2", "--to", "4"]) == 1
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["2", "3", "4"]
    assert "repair: log/00000001-00000001 offset 8192: record of op 3: head intact, payload damaged" in lines[1]
    assert call(["log", "dump", str(data), "--from", "4"]) == 0  # What was asked for is whole.


def test_a_torn_tail_was_never_acknowledged(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes behind the last proven record are what a crash leaves: forgotten, not repaired."""
    _, found = said(capsys, "log", "inspect", str(data))
    used = found["segments"][-1]["used"]
    overwrite(data / found["segments"][-1]["file"], used + 512, b"torn")
    code, verified = said(capsys, "log", "verify", str(data))
    (damage,) = verified["damage"]
    assert (code, damage["verdict"], damage["offset"], damage["ops"]) == (1, "never acknowledged", used, [])


def test_records_above_the_last_proof_are_appended_again(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its newest proof a replica believes less, but loses nothing: the log is as long as before."""
    _, found = said(capsys, "log", "inspect", str(data))
    newest = found["proofs"]["newest"]
    for copy in found["proofs"]["copies"]:
        if copy["sequence"] == newest:
            overwrite(data / "proofs", copy["offset"], b"?" * PAGE)
    log = said(capsys, "log", "inspect", str(data))[1]["log"]
    assert log["head"] == OPS
    assert 0 < log["append_again"] == OPS - log["acked"]
    code, verified = said(capsys, "log", "verify", str(data))
    assert code == 1
    assert {damage["file"] for damage in verified["damage"]} == {"proofs"}


def test_a_lost_record_in_the_middle_leaves_zeros(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hole between records is known by the op that is missing."""
    overwrite(data / "log/00000001-00000001", 3 * PAGE, bytes(PAGE))
    code, verified = said(capsys, "log", "verify", str(data))
    (damage,) = verified["damage"]
    assert (code, damage["verdict"], damage["offset"], damage["ops"]) == (1, "repair", 3 * PAGE, [4])
    assert "zeros" in damage["what"]


def test_damage_below_the_checksums_in_the_proofs_hides_nothing_else(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a long log a damaged record takes along the identities below it, but not their records."""
    found = run(ReadOnlyDisk(data), survey())
    assert found.proof is not None
    proof = attrs.evolve(found.proof, checksums=found.proof.checksums[-16:])
    for it in found.proofs:
        page = seal_page(
            size=PAGE,
            magic=proofs.MAGIC,
            owner=found.identity.incarnation,
            place=it.slot * proofs.COPIES + it.copy,
            sequence=proof.sequence,
            body=proofs.encode(proof),
        )
        overwrite(data / "proofs", it.offset, page)
    overwrite(data / "log/00000001-00000001", 4 * PAGE, b"?" * 512)
    assert found.image is not None
    # Where a view began while they were placed, its record names the ops that it began with.
    below = 4 - found.image.install.head
    code, verified = said(capsys, "log", "verify", str(data))
    assert (code, [it["ops"] for it in verified["damage"]], verified["unidentified"]) == (1, [[5]], below)
    assert call(["log", "dump", str(data), "--to", "4"]) == 0
    assert call(["log", "verify", str(data)]) == 1
    assert f"confirm the identity of {below} ops" in capsys.readouterr().out


def test_neighbours_that_are_damaged_are_told_apart(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A record that still says what it is leaves the other missing op to the place before it."""
    first, second = (segment.segment.file for segment in run(ReadOnlyDisk(data), survey()).segments)
    overwrite(data / first, 3 * PAGE, b"?" * 512)
    overwrite(data / first, 4 * PAGE + 512, b"?" * 8)
    overwrite(data / first, 13 * PAGE, b"?" * 512)  # The last one in its segment.
    overwrite(data / second, 0, b"?" * 512)
    overwrite(data / second, 3 * PAGE, b"?" * 512)
    _, verified = said(capsys, "log", "verify", str(data))
    found = [(it["file"], it["offset"], it["ops"]) for it in verified["damage"]]
    assert found == [
        (first, 3 * PAGE, [4]),
        (first, 4 * PAGE, [5]),
        (first, 13 * PAGE, [14, 15]),  # Either may have been here.
        (second, 0, []),
        (second, 3 * PAGE, [18]),
    ]


def test_a_second_record_of_an_op_is_read_instead(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The log is a bag: what has another intact record is not missing."""
    disk = ReadOnlyDisk(data)
    found = run(disk, survey())
    first, last = found.segments[0].records[0], found.segments[-1]
    prepare = run(disk, read_prepare(first, found.identity))
    assert prepare is not None
    copy = encode_record(prepare, last.segment.nonce(found.identity.incarnation), last.used)
    overwrite(data / last.segment.file, last.used, copy)
    overwrite(data / first.file, first.offset + 512, b"?" * 8)
    code, verified = said(capsys, "log", "verify", str(data))
    (damage,) = verified["damage"]
    assert (code, damage["verdict"], damage["offset"], damage["ops"]) == (1, "spared", 0, [])
    assert call(["log", "dump", str(data)]) == 0


def test_a_slot_of_zeros_is_damage_once_it_was_written(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Slots are filled from 0 on: zeros there were not left over from format."""
    for offset in (0, proofs.COPY_DISTANCE):
        overwrite(data / "proofs", offset, bytes(PAGE))
    code, verified = said(capsys, "log", "verify", str(data))
    assert (code, [it["offset"] for it in verified["damage"]]) == (1, [0, proofs.COPY_DISTANCE])


def test_a_lost_log_is_amnesia(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No segment at all: the folder as a whole is named."""
    for path in (data / "log").iterdir():
        path.unlink()
    code, verified = said(capsys, "log", "verify", str(data))
    assert code == 1
    assert verified["damage"][0]["verdict"] == "amnesia"
    assert (verified["damage"][0]["file"], verified["damage"][0]["offset"]) == ("log", None)
    assert verified["damage"][1]["ops"] == list(range(1, OPS + 1))


def test_a_single_replica_with_a_damaged_record_would_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody could repair it: exit code 4 and the replica's own words."""
    directory = tmp_path / "d"
    format_replica(directory, cluster=cluster_id("c"), replica=0, members=range(1), segment_size=1 << 20)
    (directory / "log/00000001-00000000").unlink()
    code, verified = said(capsys, "log", "verify", str(directory))
    assert (code, verified["would_start"]) == (4, False)
    assert "only one of its cluster" in verified["refusal"]
    assert call(["log", "inspect", str(directory)]) == 4
    assert call(["log", "dump", str(directory)]) == 4


def test_files_of_another_replica_are_told_apart(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An intact superblock of somebody else is foreign, not damaged."""
    format_replica(tmp_path / "other", cluster=cluster_id("c"), replica=0, members=range(3), segment_size=1 << 20)
    shutil.copy(tmp_path / "other/superblock", data / "superblock")
    code, verified = said(capsys, "log", "verify", str(data))
    assert code == 4
    assert [damage["what"] for damage in verified["damage"][:4]] == [f"copy {index} foreign" for index in range(4)]


def test_one_copy_of_the_identity_is_enough(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named; both lost are an error like that of a start."""
    overwrite(data / "identity", 20, b"?")
    code, verified = said(capsys, "log", "verify", str(data))
    assert code == 1
    assert (verified["damage"][0]["file"], verified["damage"][0]["verdict"]) == ("identity", "spared")
    overwrite(data / "identity", PAGE + 20, b"?")
    assert call(["log", "verify", str(data)]) == 2
    assert "identity" in capsys.readouterr().err


def test_a_directory_in_use_may_be_read(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a word on stderr that it may change underneath."""
    with FileDisk(data):
        assert call(["log", "verify", str(data)]) == 0
        assert f"{data} is in use" in capsys.readouterr().err
    assert call(["log", "verify", str(data)]) == 0
    assert capsys.readouterr().err == ""
    FileDisk(data).close()  # And the lock was not kept.


@pytest.mark.parametrize("seed", range(12))
def test_any_bytes_whatever_are_judged(data: Path, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Garbage anywhere never ends in a traceback, and never passes for intact."""
    random = Random(seed)
    for name in ("superblock", "proofs", "log/00000001-00000001", "log/00000002-00000002"):
        written = 4 * 16384 if name == "superblock" else 4 * PAGE
        for _ in range(random.randint(0, 5)):
            overwrite(data / name, random.randrange(written), random.randbytes(random.randint(200, 9000)))
    overwrite(data / "log/00000001-00000001", 512 * random.randrange(2), b"!")
    code, verified = said(capsys, "log", "verify", str(data))
    assert code == (1 if verified["would_start"] else 4)
    assert verified["damage"]
    for command in ("inspect", "verify", "dump"):
        assert call(["log", command, str(data)]) in (0, 1, 4)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["log", "inspect", "nowhere"], "nowhere: no such directory"),
        (["log", "verify", "."], "not a data directory of trio_pb"),
        (["log", "dump", ".", "--from", "-1"], "--from -1"),
        (["log", "dump", ".", "--from", "7", "--to", "6"], "--to 6"),
        (["log", "dump"], "DIR is missing; see trio-pb log dump --help"),
    ],
)
def test_wrong_usage(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and a message that names what was wrong; nothing was made."""
    monkeypatch.chdir(tmp_path)
    assert call(words) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
