"""Anybody's machine in a simulated cluster: the examples run, mistakes are found, errors say what to do."""

from __future__ import annotations

import shlex
from pathlib import Path
from random import Random

import pytest
from hypothesis import strategies as st

from examples import counter
from sim.choices import Choices
from sim.experiment import experiment_named, replay_command, run_seed, slug
from sim.machines import MachineRuns, MachineSubject, run_machine, workload_of
from sim.mutants.mutant import planted
from sim.mutants.reads import reads_without_an_index
from sim.requests import Command, Query, Turn
from trio_pb import canonical
from trio_pb.errors import ConfigError

ROOT = Path(__file__).parents[2]
PLANTED = ROOT / "tests" / "machines" / "planted.py"
COUNTER = MachineRuns("examples.counter:Counter")
LOCKS = MachineRuns("examples.locks:Locks", "examples.lock_requests:requests")


@pytest.mark.parametrize("runs", [COUNTER, LOCKS], ids=["a function", "a strategy"])
def test_examples_survive(runs: MachineRuns) -> None:
    """Under all faults of a few seeds, with work done."""
    for seed in (1, 2, 3):
        report = run_seed(seed, runs)
        assert report.failure is None, (report.failure.rule, report.failure.text)
        assert report.committed > 5


def test_equal_seeds_are_equal_runs() -> None:
    """Also where a strategy makes the requests."""
    assert run_seed(5, LOCKS).trace_digest == run_seed(5, LOCKS).trace_digest
    assert run_seed(5, LOCKS).trace_digest != run_seed(6, LOCKS).trace_digest


@pytest.mark.parametrize(
    ("name", "rules"),
    [("OutsideParts", {"INV-19", "INV-20", "INV-21", "INV-22"}), ("Fragile", {"ZeroDivisionError"})],
)
def test_a_mistake_is_found(name: str, rules: set[str]) -> None:
    """What a restart forgets shows in an answer; what a handler raises stops the run."""
    runs = MachineRuns(f"{PLANTED}:{name}")
    failures = [report.failure for report in (run_seed(seed, runs) for seed in range(1, 5)) if report.failure]
    assert failures
    assert {failure.rule for failure in failures} <= rules


def test_stale_reads_of_any_machine_are_found() -> None:
    """The machine itself, run sequentially, is the model: a cluster that answers late is caught."""
    with planted(reads_without_an_index):
        reports = [run_seed(seed, COUNTER) for seed in range(1, 12)]
    found = {report.failure.rule for report in reports if report.failure}
    assert found == {"INV-23"}


def test_the_name_brings_it_back() -> None:
    """Recordings know an experiment by its name."""
    assert experiment_named(COUNTER.name) == COUNTER
    assert experiment_named(LOCKS.name) == LOCKS
    assert (
        replay_command(LOCKS, 7) == "trio-pb sim run --seeds 1 --first-seed 7"
        " examples.locks:Locks --workload examples.lock_requests:requests"
    )


@pytest.mark.parametrize(
    ("machine", "workload", "told"),
    [
        ("counter", "", "must be package.module:Name or path/of/file.py:Name"),
        ("no.such:Machine", "", "there is no module no.such"),
        (".:Machine", "", "must be package.module:Name or path/of/file.py:Name"),
        (".counter:Machine", "", "must be package.module:Name or path/of/file.py:Name"),
        ("no_such.py:Machine", "", "no_such.py: there is no such file"),
        ("examples.counter:Nothing", "", "there is no Nothing in examples.counter"),
        ("examples.counter:ADD", "", "neither a StateMachine nor a function that makes one"),
        ("builtins:dict", "", "made {}, which is no StateMachine"),
        ("examples.locks:Locks", "", "there is no workload in examples.locks; name one with --workload"),
        ("examples.counter:Counter", "examples.counter:ADD", "neither a function nor a Hypothesis strategy"),
    ],
)
def test_names_that_lead_nowhere(machine: str, workload: str, told: str) -> None:
    """The error says what was looked for, and where."""
    with pytest.raises(ConfigError) as caught:
        MachineRuns(machine, workload)
    assert told in str(caught.value)


def test_a_workload_that_returns_something_else() -> None:
    """The run fails with what it returned."""

    def wrong(turn: Turn) -> Command:
        return Command(1, b"registering is not for workloads")

    report = run_machine(Choices(1), MachineSubject(counter.Counter, wrong))
    assert report.failure is not None
    assert "it must return Command(code, body) with a code from 2 on" in report.failure.text


def test_a_strategy_gives_every_process_the_same_requests() -> None:
    """The examples come from a fixed seed."""
    chosen: list[list[object]] = []
    for strategy in (st.builds(Query, st.just(0), st.binary(max_size=4)) for _ in range(2)):
        workload = workload_of(strategy, "it")
        chosen.append([workload(Turn(Random(number), 0, number)) for number in range(20)])
    assert chosen[0] == chosen[1]
    assert len(set(chosen[0])) > 5


def test_a_locks_fencing_token_rises() -> None:
    """The example itself: grants are numbered, the line is served in order."""
    from examples.locks import ACQUIRE, RELEASE, Locks
    from trio_pb.app.machine import decode_result

    machine = Locks()
    door = canonical.encode(["door"])
    steps = [(ACQUIRE, b"a"), (ACQUIRE, b"b"), (RELEASE, b"a"), (RELEASE, b"b"), (ACQUIRE, b"a")]
    results = [
        decode_result(machine.apply(op, op, [(0, client, code, door)])[0]) for op, (code, client) in enumerate(steps, 1)
    ]
    assert results == [1, 0, 2, 2, 3]


def test_a_path_with_blanks_comes_back_from_its_name(tmp_path: Path) -> None:
    """A recording names it, and so does the command that runs a seed again; files are named without its signs."""
    folder = tmp_path / "my machines"
    folder.mkdir()
    file = folder / "boom.py"
    file.write_text("from examples.counter import Counter, workload\n", encoding="utf-8")
    runs = MachineRuns(f"{file}:Counter")
    assert experiment_named(runs.name) == runs
    assert shlex.split(replay_command(runs, 1))[-1] == runs.machine
    assert not set(slug(runs)) & set(" :/'.")
    with pytest.raises(ConfigError, match="not a profile, a machine and a workload"):
        experiment_named("machine all 'my machine")
