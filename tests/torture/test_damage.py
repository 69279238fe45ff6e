"""Damage stays inside the fault model, and is seen on the disk until it is repaired."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from trio_pb.driver.read_only_disk import ReadOnlyDisk
from trio_pb.storage.disk import run
from trio_pb.storage.inspect import Survey, survey
from trio_pb.storage.superblock import COPY_SIZE, SUPERBLOCK_FILE
from trio_pb.testbed.torture import judge
from trio_pb.testbed.torture.damage import rot, ruin, unrepaired

pytestmark = pytest.mark.process

SEEDS = 40


def look(directory: Path) -> Survey:
    """What is there."""
    return run(ReadOnlyDisk(directory), survey())


def copies_of(directory: Path, seeds: int) -> list[Path]:
    """So many copies of a directory."""
    return [Path(shutil.copytree(directory, directory.parent / f"copy-{seed}")) for seed in range(seeds)]


def test_a_replica_starts_again_whatever_rots(data: Path) -> None:
    """Every seed damages something that is seen, and none takes the superblock or all knowledge of promises."""
    before = look(data / "1")
    assert not unrepaired(before)
    told = set[str]()
    needed = 0
    for seed, directory in enumerate(copies_of(data / "1", SEEDS)):
        what = rot(directory, look(directory), Random(seed))
        assert what
        told.add(what.split(":")[0])
        after = look(directory)
        assert after.recovered is not None, what
        needed += bool(unrepaired(after))
        # Never both: a record that nobody would miss any more.
        if after.proof is not None and before.proof is not None and after.proof.sequence < before.proof.sequence:
            assert after.missing == before.missing, what
    assert len(told) > 8
    assert 0 < needed < SEEDS


def test_a_superblock_that_a_crash_left_half_written_is_not_damaged_further(data: Path) -> None:
    """Two copies are bad already: another one, and the disk would be lost."""
    with (data / "1" / SUPERBLOCK_FILE).open("r+b") as file:
        file.write(bytes(2 * COPY_SIZE))
    half = look(data / "1")
    assert half.recovered is not None
    assert ruin(data / "1", half, Random(1)) == ""
    for seed, directory in enumerate(copies_of(data / "1", SEEDS)):
        what = rot(directory, half, Random(seed))
        assert "superblock" not in what
        assert look(directory).recovered is not None


def test_ruin_leaves_a_replica_that_knows_that_it_forgot(data: Path) -> None:
    """No record, no proof, no whole checkpoint; but an identity and a superblock."""
    assert "random bytes over" in ruin(data / "1", look(data / "1"), Random(1))
    after = look(data / "1")
    assert after.recovered is not None
    assert after.proof is None
    assert unrepaired(after)


# --- The judge of logs ----------------------------------------------------------------------------


def test_sound_logs_verify(data: Path) -> None:
    """All replicas, op by op."""
    verdict = judge.judge_logs({replica: look(data / str(replica)) for replica in range(3)})
    assert verdict.holds, verdict


def test_damage_that_nobody_repaired_is_told(data: Path) -> None:
    """On which replica, where, what."""
    ruin(data / "1", look(data / "1"), Random(1))
    verdict = judge.judge_logs({replica: look(data / str(replica)) for replica in range(3)})
    assert not verdict.holds
    assert all("replica 1: " in complaint for complaint in verdict.complaints[:-1])


def test_a_lost_disk_is_told(data: Path) -> None:
    """It would not start."""
    (data / "2" / SUPERBLOCK_FILE).write_bytes(bytes(4 * COPY_SIZE))
    verdict = judge.judge_logs({replica: look(data / str(replica)) for replica in range(3)})
    assert "replica 2 would not start again" in verdict.complaints[0]


def test_logs_that_differ_are_told() -> None:
    """Op and replicas; an op that only some still have is no difference, one that nobody can name is."""
    same = {7: b"a", 8: b"b"}
    assert judge.compare_logs({0: same, 1: {8: b"b", 9: b"c"}}) == []
    assert judge.compare_logs({0: same, 1: {8: b"x"}}) == ["op 8 differs in the logs of replicas 0 and 1"]
    assert judge.compare_logs({0: same, 2: {9: None}}) == ["replica 2: op 9 is unidentified"]
