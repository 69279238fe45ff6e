"""`trio-pb corrupt` damages what it says, by seed, and `trio-pb log verify` finds each kind of it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from trio_pb.cli.main import call
from trio_pb.driver.file_disk import FileDisk

KINDS = ["rot", "torn", "misdirect", "lost-write"]
FILES = {"proof": "proofs", "superblock": "superblock"}


def damage(capsys: pytest.CaptureFixture[str], directory: Path, *words: str) -> list[dict[str, Any]]:
    """Damage a directory; what the tool says that it did."""
    assert call(["corrupt", str(directory), *words, "--json"]) == 0
    damaged: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["damaged"]
    return damaged


def verified(capsys: pytest.CaptureFixture[str], directory: Path) -> tuple[int, list[dict[str, Any]]]:
    """Exit code of `log verify` and the damage that it found."""
    code = call(["log", "verify", str(directory), "--json"])
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["damage"]
    return code, found


def contents(directory: Path) -> dict[str, bytes]:
    """Bytes of every file."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def differing(before: bytes, after: bytes) -> tuple[int, int]:
    """First byte that differs, and the end of the last one."""
    places = [index for index, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    return places[0], places[-1] + 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_record_is_found(data: Path, kind: str, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Exactly the op that the tool damaged is to be fetched from peers, at the place that the tool named."""
    (done,) = damage(capsys, data, "--kind", kind, "--where", "log", "--seed", str(seed))
    op = re.search(r"the record of op (\d+)", done["was"])
    assert op
    code, findings = verified(capsys, data)
    assert code == 1
    assert [finding["verdict"] for finding in findings] == ["repair"]
    assert findings[0]["ops"] == [int(op[1])]
    assert findings[0]["file"] == done["file"]
    assert findings[0]["offset"] <= done["offset"] < findings[0]["offset"] + max(findings[0]["size"], 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("where", "verdict"), [("proof", "spared"), ("superblock", "healed")])
def test_a_damaged_copy_is_found(
    data: Path, kind: str, where: str, verdict: str, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """One copy of several: the replica would not even notice, but people do."""
    (done,) = damage(capsys, data, "--kind", kind, "--where", where, "--seed", str(seed))
    code, (finding,) = verified(capsys, data)
    assert (code, finding["verdict"], finding["file"]) == (1, verdict, FILES[where])
    assert finding["offset"] <= done["offset"] < finding["offset"] + finding["size"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["log", "proof", "superblock"])
def test_only_what_is_told_changes_and_the_seed_decides_it(
    data: Path, tmp_path: Path, where: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same seed does the same to the same bytes; everything else stays, the identity among it."""
    words = ["--kind", kind, "--where", where, "--seed", "11"]
    twin = Path(shutil.copytree(data, tmp_path / "twin"))
    before = contents(data)
    (done,) = damage(capsys, data, *words)
    assert damage(capsys, twin, *words) == [done]
    after = contents(data)
    assert contents(twin) == after
    assert {file for file in before if before[file] != after[file]} == {done["file"]}
    first, end = differing(before[done["file"]], after[done["file"]])
    assert done["offset"] <= first
    assert end <= done["offset"] + done["size"]


def test_other_seeds_damage_other_places(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A seed is not decoration."""
    places = set[tuple[str, int]]()
    for seed in range(5):
        copy = Path(shutil.copytree(data, tmp_path / f"copy-{seed}"))
        (done,) = damage(capsys, copy, "--kind", "rot", "--where", "log", "--seed", str(seed))
        places.add((done["file"], done["offset"]))
    assert len(places) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_three_copies_of_the_superblock_are_the_disk(data: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever happened to them: one copy left is none, and no command ends in a traceback."""
    assert len(damage(capsys, data, "--kind", kind, "--where", "superblock", "--seed", "1", "--copies", "3")) == 3
    code, findings = verified(capsys, data)
    if kind == "lost-write":
        # Three old ones agree: the last image was never durable as far as the disk can tell.
        assert (code, [finding["verdict"] for finding in findings]) == (1, ["healed"])
        return
    assert code == 4
    assert {finding["verdict"] for finding in findings} == {"disk lost"}
    assert call(["log", "inspect", str(data)]) == 4
    assert "would NOT start" in capsys.readouterr().out
    assert call(["log", "dump", str(data)]) == 4


def test_all_copies_of_all_proofs_are_amnesia(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The log is whole, but nobody knows any more what was acknowledged."""
    assert len(damage(capsys, data, "--kind", "rot", "--where", "proof", "--seed", "1", "--copies", "8")) == 8
    code, findings = verified(capsys, data)
    assert (code, {finding["verdict"] for finding in findings}) == (1, {"amnesia"})
    assert call(["log", "inspect", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["log"]["status"] == "amnesiac"


def test_a_directory_in_use_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unless --force says so."""
    words = ["corrupt", str(data), "--kind", "rot", "--where", "log", "--seed", "1"]
    before = contents(data)
    with FileDisk(data):
        assert call(words) == 2
        assert "in use" in capsys.readouterr().err
        assert contents(data) == before
        assert call([*words, "--force"]) == 0
    assert contents(data) != before
    assert contents(data)["identity"] == before["identity"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--kind", "rot", "--where", "log", "--seed", "-1"], "--seed -1"),
        (["--kind", "rot", "--where", "proof", "--seed", "1", "--copies", "9"], "--copies 9: must be 1 to 8"),
        (["--kind", "rot", "--where", "superblock", "--seed", "1", "--copies", "0"], "--copies 0: must be 1 to 4"),
        (["--kind", "rot", "--where", "log", "--seed", "1", "--copies", "2"], "must be 1 to 1"),
        (["--kind", "rust", "--where", "log", "--seed", "1"], '"rot", "torn", "misdirect", "lost-write"'),
        (["--kind", "rot", "--where", "identity", "--seed", "1"], "--where"),
        (["--kind", "rot", "--where", "log"], "--seed is missing"),
        (["--kind", "rot", "--where", "log", "--seed", "1"], "not a data directory of trio_pb"),
    ],
)
def test_wrong_usage_touches_nothing(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, a message that names what was wrong, and no file made in a directory of somebody else."""
    (tmp_path / "letters.txt").write_text("dear", encoding="utf-8")
    assert call(["corrupt", str(tmp_path), *words]) == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


def test_an_empty_log_has_nothing_to_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message says so."""
    directory = str(tmp_path / "d")
    words = ["--cluster", "c", "--replica", "0", "--replicas", "3", "--segment-mib", "1"]
    assert call(["format", directory, *words]) == 0
    assert call(["corrupt", directory, "--kind", "rot", "--where", "log", "--seed", "1"]) == 2
    assert "nothing to damage" in capsys.readouterr().err
