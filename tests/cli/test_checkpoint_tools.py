"""Offline tools over checkpoints on disk: what is whole, what is damaged, and how two replicas differ."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from trio_pb.cli.main import call
from trio_pb.core.manifest import (
    Chunk,
    CoreState,
    Manifest,
    chunk_digest,
    encode_manifest,
    encode_sessions,
    manifest_id,
)
from trio_pb.core.messages import Configuration
from trio_pb.driver.file_disk import FileDisk
from trio_pb.storage.disk import run
from trio_pb.storage.identity import read_identity
from trio_pb.storage.packs import Packs, PackWriter
from trio_pb.storage.superblock import SuperblockFile
from trio_pb.testbed.formatting import cluster_id, format_replica

CLUSTER = cluster_id("checkpoints")
OP = 1024
PLACES = 8


def state_chunk(place: int, version: int) -> bytes:
    """The bytes of one place of an application."""
    return Random(f"{place} {version}").randbytes(1000 + 700 * place)


def write_checkpoint(directory: Path, op: int, versions: list[int], *, is_certified: bool = False) -> Manifest:
    """Write a checkpoint as a replica does, chunks before manifest, and name it in the superblock."""
    with FileDisk(directory) as disk:
        identity = run(disk, read_identity())
        superblock = SuperblockFile(identity.incarnation)
        image = run(disk, superblock.read())
        run(disk, superblock.heal())
        packs = Packs(identity.incarnation)
        run(disk, packs.scan())
        writer = PackWriter(packs)
        chunks = [state_chunk(place, version) for place, version in enumerate(versions)]
        sessions = encode_sessions(())
        state = CoreState(
            op=op,
            checksum=op.to_bytes(16, "little"),
            last_timestamp=op,
            release=1,
            configuration=Configuration(0, (0, 1, 2)),
            probe=bytes(16),
            sessions=(),
        )
        manifest = Manifest(
            cluster=CLUSTER,
            state=state,
            sessions=(Chunk(3, chunk_digest(sessions), len(sessions)),),
            application=tuple(Chunk(place, chunk_digest(it), len(it)) for place, it in enumerate(chunks)),
        )
        fresh = {chunk_digest(it): it for it in (sessions, *chunks) if chunk_digest(it) not in packs}
        run(disk, writer.write(list(fresh.items())))
        data = encode_manifest(manifest)
        run(disk, writer.write([(chunk_digest(data), data)]))
        own = manifest_id(op, data)
        certified = own if is_certified else image.certified
        named = attrs.evolve(image, born=True, checkpoint=own, certified=certified, anchor=state.id, commit=state.id)
        run(disk, superblock.write(named))
        return manifest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with one checkpoint."""
    directory = tmp_path / "data"
    format_replica(directory, cluster=CLUSTER, replica=1, members=range(3), segment_size=1 << 20)
    write_checkpoint(directory, OP, [0] * PLACES)
    return directory


@pytest.fixture
def certified(tmp_path: Path) -> Path:
    """Another, whose checkpoint a quorum agreed on."""
    directory = tmp_path / "certified"
    format_replica(directory, cluster=CLUSTER, replica=1, members=range(3), segment_size=1 << 20)
    write_checkpoint(directory, OP, [0] * PLACES, is_certified=True)
    return directory


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """Run a command with --json; its exit code and what it printed."""
    capsys.readouterr()
    code = call([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_whole_checkpoint(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every chunk is there, and a start would begin with it."""
    code, found = said(capsys, "checkpoint", "inspect", str(data))
    (checkpoint,) = found["checkpoints"]
    assert (code, checkpoint["op"], checkpoint["role"], checkpoint["missing"]) == (0, OP, ["own"], 0)
    assert (checkpoint["session_chunks"], checkpoint["application_chunks"]) == (1, PLACES)
    size = sum(len(state_chunk(place, 0)) for place in range(PLACES)) + len(encode_sessions(()))
    assert checkpoint["bytes"] == size
    assert sum(pack["dead_bytes"] for pack in found["packs"]) == 0
    assert said(capsys, "checkpoint", "verify", str(data))[0] == 0
    assert said(capsys, "log", "verify", str(data))[0] == 0
    log = said(capsys, "log", "inspect", str(data))[1]["log"]
    assert (log["base"], log["head"], log["commit"]) == (OP, OP, OP)


def test_what_no_checkpoint_needs_any_more_is_dead(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second checkpoint shares what did not change; the rest of the first one only takes up space."""
    write_checkpoint(data, 2 * OP, [1, *[0] * (PLACES - 1)])
    code, found = said(capsys, "checkpoint", "inspect", str(data))
    assert code == 0
    assert [(it["op"], it["role"], it["missing"]) for it in found["checkpoints"]] == [
        (OP, ["other"], 0),
        (2 * OP, ["own"], 0),
    ]
    dead = sum(pack["dead_bytes"] for pack in found["packs"])
    assert dead >= len(state_chunk(0, 0)) + found["checkpoints"][0]["manifest_bytes"]
    assert dead < 2 * len(state_chunk(1, 0)) + found["checkpoints"][0]["manifest_bytes"]
    assert said(capsys, "checkpoint", "verify", str(data))[0] == 0


@pytest.mark.parametrize("command", ["inspect", "verify", "diff"])
def test_looking_changes_nothing(data: Path, command: str) -> None:
    """Bytes, times and names of all files stay."""
    before = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in data.rglob("*")}
    call(["checkpoint", command, str(data), *([str(data)] if command == "diff" else [])])
    assert {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in data.rglob("*")} == before


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["rot", "torn", "misdirect", "lost-write"])
def test_a_damaged_chunk_is_found(certified: Path, kind: str, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever happened to it, the checkpoint does not load, and both verifications say so."""
    words = ["--kind", kind, "--where", "chunk", "--seed", str(seed)]
    (done,) = said(capsys, "corrupt", str(certified), *words)[1]["damaged"]
    assert done["file"].startswith("checkpoints/")
    code, verified = said(capsys, "checkpoint", "verify", str(certified))
    assert code == 1
    assert verified["damage"]
    assert {it["verdict"] for it in verified["damage"]} <= {"state transfer", "not needed"}
    transferred = [it for it in verified["damage"] if it["verdict"] == "state transfer"]
    assert transferred
    if kind != "lost-write":  # That one leaves no place behind, only an absence.
        end = done["offset"] + done["size"]
        assert any(it["offset"] < end and done["offset"] < it["offset"] + it["size"] for it in transferred)
    assert said(capsys, "log", "verify", str(certified))[0] == 1


def test_a_checkpoint_that_nobody_certified_is_replayed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Then nothing was freed, and a start executes the log from its beginning."""
    assert said(capsys, "corrupt", str(data), "--kind", "rot", "--where", "chunk", "--seed", "1")[0] == 0
    verified = said(capsys, "checkpoint", "verify", str(data))[1]
    assert "replay" in {it["verdict"] for it in verified["damage"]}
    assert {it["verdict"] for it in verified["damage"]} <= {"replay", "not needed"}


def test_a_lost_manifest_is_named(certified: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All packs gone: the checkpoint that the superblock names cannot load."""
    shutil.rmtree(certified / "checkpoints")
    code, verified = said(capsys, "checkpoint", "verify", str(certified))
    (damage,) = verified["damage"]
    assert (code, damage["file"], damage["verdict"]) == (1, "checkpoints", "state transfer")
    assert f"the manifest of checkpoint {OP}" in damage["what"]


def test_diff_by_place(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A replica that is one checkpoint ahead differs in what changed since, and only that would be moved."""
    ahead = Path(shutil.copytree(data, tmp_path / "ahead"))
    assert said(capsys, "checkpoint", "diff", str(data), str(ahead))[0] == 0
    write_checkpoint(ahead, 2 * OP, [0, 0, 1, 0, 0, 1, 0, 0])
    code, found = said(capsys, "checkpoint", "diff", str(data), str(ahead))
    assert (code, found["equal"]) == (1, False)
    assert [(it["part"], it["place"]) for it in found["differing"]] == [("application", 2), ("application", 5)]
    manifest = said(capsys, "checkpoint", "inspect", str(ahead))[1]["checkpoints"][1]
    moved = len(state_chunk(2, 1)) + len(state_chunk(5, 1)) + manifest["manifest_bytes"]
    assert found["transfer_bytes"] == {"to_dir": moved, "to_dir2": 0}
    assert call(["checkpoint", "diff", str(data), str(ahead)]) == 1
    assert f"would move {moved} bytes to {data}" in capsys.readouterr().out


def test_wrong_usage(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory without a checkpoint, of another cluster, or none at all."""
    fresh, stranger = tmp_path / "fresh", tmp_path / "stranger"
    format_replica(fresh, cluster=CLUSTER, replica=2, members=range(3), segment_size=1 << 20)
    format_replica(stranger, cluster=cluster_id("other"), replica=2, members=range(3), segment_size=1 << 20)
    assert call(["checkpoint", "inspect", str(fresh)]) == 0
    assert "no checkpoint" in capsys.readouterr().out
    for other, told in ((fresh, "no checkpoint yet"), (stranger, "no checkpoint yet"), (tmp_path / "x", "no such")):
        assert call(["checkpoint", "diff", str(data), str(other)]) == 2
        assert told in capsys.readouterr().err
    write_checkpoint(stranger, OP, [0] * PLACES)
    assert call(["checkpoint", "verify", str(stranger)]) == 1  # Its manifest is of a cluster that is not its own.
    assert call(["corrupt", str(fresh), "--kind", "rot", "--where", "chunk", "--seed", "1"]) == 2
    assert "nothing to damage" in capsys.readouterr().err
