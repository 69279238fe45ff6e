"""The shrinker: what it leaves still fails for the same reason, and it leaves little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import attrs
import pytest

from sim.choices import Choices
from sim.experiment import Swarm
from sim.mutants.hunt import Planted
from sim.recording import Recording, record
from sim.run import Failure, RunReport
from sim.shrink import Progress, shrink
from trio_pb.errors import ConfigError

NOISE = 300


@attrs.frozen
class Puzzle:
    """A world of many small decisions that fails if `is_bad` finds the wrong ones together."""

    is_bad: Callable[[dict[str, int]], str | None]  # The place of the failure; None if there is none.
    name: str = "puzzle"
    arguments: tuple[str, ...] = ()

    def run(self, choices: Choices) -> RunReport:
        """Draw everything there is to draw."""
        drawn = {
            "lost": sum(choices.flag(("lose", source, number), 0.5) for source in range(3) for number in range(NOISE)),
            "third": int(choices.flag(("lose", 2, 7), 1.0)),
            "crash": int(choices.flag(("crash", 0), 1.0)),
            "delay": choices.number(("crash", 0, "at"), 1000, 5000, 0),
            "orders": choices.at_most(("operations", 0), 80),
        }
        place = self.is_bad(drawn)
        failure = None if place is None else Failure("INV-0", f"with {drawn}", place, "")
        return RunReport(
            seed=choices.seed,
            replicas=3,
            events=drawn["orders"],
            steps=0,
            committed=0,
            virtual_us=0,
            trace_digest=sum(drawn.values()),
            counts=Counter(),
            marks=frozenset(),
            choices=len(choices.made),
            failure=failure,
        )


def _recorded(is_bad: Callable[[dict[str, int]], str | None]) -> Recording:
    recording = record("0.1.0", Puzzle(is_bad), 1)
    assert len(recording.choices) > NOISE
    return recording


def test_only_what_matters_is_left() -> None:
    """A lost message and a crash that comes late enough, out of hundreds of losses; and no more orders than needed."""

    def is_bad(drawn: dict[str, int]) -> str | None:
        matters = drawn["third"] and drawn["crash"] and drawn["delay"] >= 1234 and drawn["orders"] >= 5
        return "here" if matters else None

    told: list[Progress] = []
    shrunk = shrink(_recorded(is_bad), progress=told.append)
    assert shrunk.recording.choices == {
        ("lose", 2, 7): 1,
        ("crash", 0): 1,
        ("crash", 0, "at"): 1234,
        ("operations", 0): 5,
    }
    assert shrunk.is_complete
    assert shrunk.tried < 200
    assert told[-1].choices == 4
    report, _ = shrunk.recording.run()
    assert shrunk.recording.is_exactly(report)


def test_two_that_cancel_each_other_go_together() -> None:
    """Each alone may be needed because of the other: pairs are tried as well."""

    def is_bad(drawn: dict[str, int]) -> str | None:
        return "here" if drawn["crash"] and bool(drawn["third"]) == bool(drawn["delay"]) else None

    shrunk = shrink(_recorded(is_bad))
    assert shrunk.recording.choices == {("crash", 0): 1, ("operations", 0): 0}


def test_another_failure_is_not_taken_for_it() -> None:
    """Without the crash it still fails, but elsewhere: that is another story."""
    shrunk = shrink(_recorded(lambda drawn: "here" if drawn["crash"] else "elsewhere"))
    assert shrunk.recording.choices == {("crash", 0): 1, ("operations", 0): 0}
    assert shrunk.recording.failure is not None
    assert shrunk.recording.failure.where == "here"


def test_best_so_far_counts_when_time_is_up() -> None:
    """Three runs, and not one more."""
    ticks = iter(range(1000))
    recording = _recorded(lambda drawn: "here" if drawn["third"] else None)
    shrunk = shrink(recording, budget_s=3, clock=lambda: next(ticks))
    assert not shrunk.is_complete
    assert shrunk.tried <= 3
    report, _ = shrunk.recording.run()
    assert report.failure is not None


def test_clean_recording_is_refused() -> None:
    """So is one that fails in another way than it says: the code is not what it was."""
    recording = _recorded(lambda drawn: "here" if drawn["third"] else None)
    with pytest.raises(ConfigError, match="does not fail"):
        shrink(attrs.evolve(recording, choices={}))
    assert recording.failure is not None
    other = attrs.evolve(recording, failure=attrs.evolve(recording.failure, rule="INV-1"))
    with pytest.raises(ConfigError, match="fails otherwise than it says, with INV-0 at here"):
        shrink(other)


def _needs_both(drawn: dict[str, int]) -> str | None:
    return "here" if drawn["third"] and drawn["crash"] else None


def test_several_processes_find_the_same() -> None:
    """How many try together makes no difference to what is found."""
    recording = _recorded(_needs_both)
    assert shrink(recording, jobs=2).recording == shrink(recording).recording


def test_planted_mistake_needs_few_choices() -> None:
    """A failure of the shipped code with a rule taken out; with the rule in place the same choices are harmless."""
    small = shrink(record("0.1.0", Planted("small-replication-quorum"), 1)).recording
    assert len(small.choices) <= 15
    assert record("0.1.0", Swarm(), 1, small.choices).failure is None
