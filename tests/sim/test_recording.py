"""Recordings: a file that brings a run back, event by event, and says clearly what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.choices import SEED_DIGITS_MAX, Choices, Key
from sim.experiment import Swarm, experiment_named, run_seed
from sim.mutants.hunt import Planted
from sim.profiles import PROFILES
from sim.recording import Recording, parse, read, record
from sim.run import Failure
from trio_pb.errors import ConfigError

TEXT = """\
trio-pb choices 1
version: 0.1.0
experiment: swarm all
seed: 4711
trace: 5d1fa90c after 2149 events
rule: INV-8
where: replica.py:_on_completions < replica.py:_advance_job
text: R1: storage reports work as durable
  that a power cut would undo

crash, 0 = 1
crash, 0, where = 2
lose, Prepare, 0, 2, 17 = 1
shape, read from "here" = -3
""".replace('read from "here"', '"read from \\"here\\""')

RECORDING = Recording(
    version="0.1.0",
    experiment=Swarm(),
    seed=4711,
    trace_digest=0x5D1FA90C,
    events=2149,
    failure=Failure(
        "INV-8",
        "R1: storage reports work as durable\nthat a power cut would undo",
        "replica.py:_on_completions < replica.py:_advance_job",
        "",
    ),
    choices={
        ("crash", 0): 1,
        ("crash", 0, "where"): 2,
        ("lose", "Prepare", 0, 2, 17): 1,
        ("shape", 'read from "here"'): -3,
    },
)


class Strict(Choices):
    """Choices that refuse one name for two decisions: a replay could not tell them apart."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.domains: dict[Key, tuple[int, int, int]] = {}

    def number(self, key: Key, low: int, high: int, default: int) -> int:
        """Draw, and compare the range with that of last time."""
        assert self.domains.setdefault(key, (low, high, default)) == (low, high, default), key
        return super().number(key, low, high, default)

    def flag_of(self, key: Key, roll: int, probability: float) -> bool:
        """A flag and a number of one name are two decisions as well."""
        assert self.domains.setdefault(key, (0, 1, 0)) == (0, 1, 0), key
        return super().flag_of(key, roll, probability)


# 31 has disks that are full, 51 wrong memories; the others are as good as any.
@pytest.mark.parametrize("seed", [1, 3, 31, 51])
def test_recorded_choices_bring_the_run_back(seed: int) -> None:
    """Event by event, and with the same choices recorded once more."""
    first = Strict(seed)
    report = Swarm().run(first)
    again = Choices(seed, first.made)
    assert Swarm().run(again) == report
    assert again.made == first.made


def test_no_choices_are_the_quietest_run() -> None:
    """What is left out takes its default, and every default is benign."""
    quiet = Choices(51, {})
    report = Swarm().run(quiet)
    assert report.failure is None
    assert not quiet.made
    assert report.counts["crashes"] == report.counts["messages lost"] == 0


def test_file_is_as_documented() -> None:
    """Each part of a key, a text of several lines: all there, and back."""
    assert RECORDING.text() == TEXT


def test_file_comes_back(tmp_path: Path) -> None:
    """What was written is what is read: of a failure, also with rare line ends in its text; and without one."""
    path = tmp_path / "deep" / "one.choices"
    assert RECORDING.failure is not None
    odd = attrs.evolve(RECORDING.failure, text="one\u2028line\x0b\n\nthe third\n")
    for recording in (
        RECORDING,
        attrs.evolve(RECORDING, failure=odd),
        attrs.evolve(RECORDING, failure=None, choices={}),
    ):
        recording.write(path)
        assert read(path) == recording


numbers = st.integers(1 - 10**SEED_DIGITS_MAX, 10**SEED_DIGITS_MAX - 1)
parts = st.one_of(numbers, st.text())
keys = st.tuples(st.text()) | st.lists(parts, min_size=1, max_size=6).map(tuple)


@given(st.dictionaries(keys, numbers))
def test_any_key_comes_back(choices: dict[Key, int]) -> None:
    """Whatever words a world may choose for its decisions."""
    recording = attrs.evolve(RECORDING, choices=choices)
    assert parse(recording.text(), "any") == recording


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("choices 1", "choices 2", "line 1: no recording of this version: it begins with 'trio-pb choices 1'"),
        ("seed: 4711", "seed: many", "line 4: seed is no whole number"),
        ("seed: 4711", "seed: " + "9" * 39, "line 4: seed is no whole number"),
        ("seed: 4711\n", "", "the headings lack seed"),
        ("seed: 4711", "seed: 4711\nseed: 4712", "line 5: seed comes twice"),
        ("where: ", "place: ", "line 7: expected a heading"),
        ("swarm all", "swarm some", "line 3: there is no profile 'some'; choose one of all"),
        ("swarm all", "wasps", "line 3: there is no experiment 'wasps'; it begins with one of swarm"),
        ("5d1fa90c after", "5d1fa90 after", "line 5: trace is a digest"),
        ("crash, 0 = 1", "crash, 0", "line 11: expected a choice"),
        ("crash, 0 = 1", "crash, 0 = ", "line 11: expected a choice"),
        ("crash, 0 = 1", "crash,0 = 1", "line 11: expected a choice"),
        ("crash, 0 = 1", '"crash, 0 = 1', "line 11: expected a choice"),
        ("crash, 0 = 1", '"\\x", 0 = 1', "line 11: expected a choice"),
        ("crash, 0, where", "crash, 0", "line 12: this choice comes twice"),
        ("crash, 0 = 1", "crash, 0 = " + "9" * 5000, "line 11: expected a choice"),
        ("after 2149", "after " + "9" * 5000, "line 5: trace is a digest"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    """By line, with what is expected there."""
    path = tmp_path / "bad.choices"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_file_that_is_none(tmp_path: Path) -> None:
    """Not there, a folder, not text."""
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "none.choices")
    with pytest.raises(ConfigError, match="Is a directory"):
        read(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not text"):
        read(tmp_path / "binary")


def test_failure_is_recorded() -> None:
    """Its rule and where it was noticed, and running it again finds the same."""
    recording = record("0.1.0", Planted("acknowledge-before-durable"), 5)
    assert recording.failure is not None
    assert recording.failure.rule in ("INV-31", "INV-11")
    assert recording.failure.where.startswith("promises.py:")
    report, _ = recording.run()
    assert recording.is_exactly(report)
    assert report.failure is not None
    assert report.failure.is_like(recording.failure)
    assert run_seed(5).failure is None


@pytest.mark.parametrize("profile", PROFILES)
def test_experiment_is_found_by_its_name(profile: str) -> None:
    """What a recording names is what was run."""
    assert experiment_named(Swarm(profile).name) == Swarm(profile)
