"""Sweeps: failures by cause, and what an interrupted one leaves behind."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import attrs
import pytest

from sim import sweep_file
from sim.choices import Choices
from sim.experiment import Swarm
from sim.farm import SweepReport, sweep
from sim.machines import MachineRuns
from sim.run import Failure, RunReport
from sim.sweep_file import SweepFile
from trio_pb.core.marks import Mark

FIRST = 100


@attrs.frozen
class Dice:
    """Every third seed fails, in one of two ways; every seed reaches a mark."""

    name: str = "dice"
    arguments: tuple[str, ...] = ()

    def run(self, choices: Choices) -> RunReport:
        """No world, only a verdict."""
        seed = choices.seed
        where = "left.py:f < both.py:g" if seed % 2 else "right.py:f < both.py:g"
        return RunReport(
            seed=seed,
            replicas=3,
            events=10,
            steps=5,
            committed=seed,
            virtual_us=1000,
            trace_digest=seed,
            counts=Counter(crashes=1),
            marks=frozenset([Mark.GAP_KEPT]),
            choices=0,
            failure=Failure("INV-0", f"seed {seed}", where, "story") if seed % 3 == 0 else None,
        )


def _known(report: SweepReport) -> SweepReport:
    """Without what depends on the machine."""
    return attrs.evolve(report, cpu_seconds=0.0, wall_seconds=0.0)


def test_failures_are_told_by_cause() -> None:
    """One entry for each rule and place, with how many there are and the first of their seeds."""
    report = sweep(FIRST, 30, experiment=Dice())
    assert report.failed == 10
    left, right = sorted(report.causes.values(), key=lambda cause: cause.failure.where)
    assert (left.count, left.seeds, left.failure.text) == (5, [105, 111, 117], "seed 105")
    assert (right.count, right.seeds) == (5, [102, 108, 114])


def test_sweep_stops_after_so_many_failures() -> None:
    """Between two blocks."""
    report = sweep(FIRST, 300, experiment=Dice(), stop_after_failures=3)
    assert report.seeds == 10


def test_interrupted_sweep_goes_on(tmp_path: Path) -> None:
    """What it had is in a file; the rest gives the same report as a sweep that nobody interrupted."""
    whole = sweep(FIRST, 120, experiment=Dice())
    file = SweepFile(tmp_path, Dice(), FIRST, 120)
    assert file.load() is None

    report = SweepReport(FIRST, Dice())

    def interrupt(so_far: SweepReport) -> None:
        if so_far.seeds == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(FIRST, 120, progress=interrupt, experiment=Dice(), so_far=report)
    file.save(report)

    found = SweepFile(tmp_path, Dice(), FIRST, 120).load()
    assert found is not None
    assert found.seeds == 100
    told: list[int] = []
    again = sweep(FIRST, 120, progress=lambda so_far: told.append(so_far.seeds), experiment=Dice(), so_far=found)
    assert told == [110, 120]
    assert _known(again) == _known(whole)
    file.remove()
    assert not list(tmp_path.iterdir())


def test_results_of_others_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other seeds, another experiment, other code, half a file: the seeds are run again."""
    file = SweepFile(tmp_path, Dice(), FIRST, 120)
    file.save(sweep(FIRST, 30, experiment=Dice()))
    assert file.load() is not None
    assert SweepFile(tmp_path, Dice(), FIRST + 1, 120).load() is None
    assert SweepFile(tmp_path, Swarm(), FIRST, 120).load() is None
    whole = file.path.read_text()
    file.path.write_text(whole[:-10])
    assert file.load() is None
    file.path.write_text(json.dumps({**json.loads(whole), "causes": 7}))
    assert file.load() is None
    file.path.write_text(whole)
    monkeypatch.setattr(sweep_file, "code_digest", lambda: 1)
    assert SweepFile(tmp_path, Dice(), FIRST, 120).load() is None


def test_a_sweep_of_somebodys_machine_begins_anew(tmp_path: Path) -> None:
    """Its file may have changed, and what that imports; the sweep does not know."""
    runs = MachineRuns("examples.counter:Counter")
    file = SweepFile(tmp_path, runs, FIRST, 120)
    file.save(SweepReport(FIRST, runs, seeds=30))
    assert file.path.name == f"sweep-machine-all-examples-counter-Counter-{FIRST}-120.json"
    assert file.load() is None


def test_file_is_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short sweep leaves none; a long one has something to show even when it is killed."""
    file = SweepFile(tmp_path, Dice(), FIRST, 120)
    report = sweep(FIRST, 30, experiment=Dice())
    file.note(report)
    assert not file.path.exists()
    monkeypatch.setattr(sweep_file, "WRITE_EVERY_S", 0.0)
    file.note(report)
    assert file.load() is not None
