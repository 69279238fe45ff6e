"""The twelve mistakes: each is found by its judge, is gone when it is mended, and is not ours."""

from __future__ import annotations

import pytest

from sim.choices import Choices
from sim.experiment import experiment_named, run_seed
from sim.naive import judges
from sim.naive.experiment import NaiveScript
from sim.naive.judges import Call, Judge
from sim.naive.mistakes import MISTAKES
from sim.naive.ports import Acknowledge, Order, Receive, Reply, Saved, Start, ToClient
from sim.naive.replica import Replica
from sim.naive.run import play
from sim.naive.scripts import SCRIPTS, Script
from sim.oracles.facts import Violation
from sim.scenarios.catalogue import SCENARIOS
from trio_pb.errors import ConfigError

EVENTS_MAX = 40  # What a person still follows.

all_scripts = pytest.mark.parametrize("script", [pytest.param(it, id=it.name) for it in SCRIPTS.values()])


@all_scripts
def test_mistake_is_found_by_its_judge(script: Script) -> None:
    """The right judge speaks, soon, and the run can be replayed from its recorded choices."""
    verdict = play(script, Choices(1))
    assert verdict.rule == script.oracle
    assert verdict.cluster.happened <= EVENTS_MAX
    again = play(script, Choices(1, verdict.cluster.choices.made))
    assert again.rule == script.oracle
    assert again.cluster.trace_digest == verdict.cluster.trace_digest


@all_scripts
def test_script_without_its_mistake_finds_nothing(script: Script) -> None:
    """The same steps on the protocol without a mistake: it is not the script that fails."""
    verdict = play(script, Choices(1), kind=Replica)
    assert verdict.violation is None
    assert verdict.story[-1].is_check


@all_scripts
def test_ours_survives(script: Script) -> None:
    """The same steps on trio_pb, under all oracles of the simulator; the story ends with equal states."""
    survived = SCENARIOS[script.name]
    cluster = survived.cluster()
    survived.play(cluster)
    assert cluster.narration.lines[-1].text.startswith("all replicas have executed the same")


@all_scripts
def test_mistake_is_found_in_noise(script: Script) -> None:
    """With a bad network and bystanders most seeds still find it, and without the mistake none finds anything."""
    rules = [play(script, Choices(seed), noisy=True).rule for seed in range(8)]
    assert rules.count(script.oracle) >= 5, rules
    assert [play(script, Choices(seed), kind=Replica, noisy=True).rule for seed in range(8)] == [None] * 8


@all_scripts
def test_steps_that_a_recording_leaves_out_do_not_happen(script: Script) -> None:
    """A replay of no choices at all does nothing, and nothing is wrong with that."""
    verdict = play(script, Choices(1, {}))
    assert verdict.violation is None
    assert [line.text for line in verdict.story if not line.is_check] == ["everything is mended and started again"]


@pytest.mark.parametrize("noisy", [False, True])
def test_script_is_an_experiment(noisy: bool) -> None:
    """It is found again by its name, and its report tells the judge, the place and the story."""
    experiment = NaiveScript("one-behind", noisy=noisy)
    assert experiment_named(experiment.name) == experiment
    report = run_seed(1, experiment)
    assert report.failure is not None
    assert (report.failure.rule, report.failure.where) == (judges.STALE_READ, "judges.py:answered")
    assert "R0 crashes" in report.failure.story
    assert (report.crashes, report.view_changes) == (1, 1)
    assert run_seed(1, experiment).trace_digest == report.trace_digest


def test_unknown_script_is_a_named_error() -> None:
    """A recording of another version may name a script that there is no more."""
    with pytest.raises(ConfigError, match="no scenario 'two-behind' of the naive protocol; choose one of reply-before"):
        experiment_named("naive two-behind")


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_explains_itself(name: str) -> None:
    """Three sentences, the last of which names the rule of ours."""
    text = " ".join((MISTAKES[name].__doc__ or "").split())
    assert text.count(". ") == 2
    assert " Here " in text
    assert text.endswith(").")


def test_retry_is_answered_as_the_first_time() -> None:
    """Without a mistake the protocol keeps its answers: what was ordered since is not in them."""
    primary = Replica(0, 3)
    primary.step(0, [Start(Saved())])

    def answers(*messages: tuple[int, Order | Acknowledge]) -> list[Reply]:
        outputs = primary.step(0, [Receive(source, message) for source, message in messages])
        return [it.message for it in outputs if isinstance(it, ToClient) and isinstance(it.message, Reply)]

    first, second = Order(9, 1, 7, "x"), Order(9, 2, 7, "y")
    assert answers((9, first)) == []
    assert answers((1, Acknowledge(0, 1, 0)), (9, second), (1, Acknowledge(0, 2, 0))) == [
        Reply(1, 1, ("x",)),
        Reply(2, 2, ("x", "y")),
    ]
    assert answers((9, first)) == [Reply(1, 1, ("x",))]


# --- The judges ---------------------------------------------------------------------------------------


def acknowledged(judge: Judge, laptop: str) -> None:
    """Let a client place an order and hear that it is taken."""
    call = Call("C0", 1, 1, laptop)
    judge.asked(call)
    judge.answered(call, 0, (laptop,))


def test_judge_of_reads_knows_what_was_acknowledged_before() -> None:
    """A read may miss what was acknowledged after it began, and nothing else."""
    judge = Judge(3, lambda _: True)
    early = Call("C1", 1, 1, None)
    judge.asked(early)
    acknowledged(judge, "x")
    judge.answered(early, 0, ())
    late = Call("C1", 2, 1, None)
    judge.asked(late)
    with pytest.raises(Violation, match=judges.STALE_READ):
        judge.answered(late, 0, ())


def test_judge_of_loss_looks_at_the_same_customer_only() -> None:
    """An order of another customer says nothing about this one's; one of the same customer does."""
    judge = Judge(3, lambda _: True)
    acknowledged(judge, "x")
    other = Call("C1", 1, 2, "y")
    judge.asked(other)
    judge.answered(other, 0, ("y",))
    same = Call("C1", 2, 1, "z")
    judge.asked(same)
    with pytest.raises(Violation, match=judges.LOST):
        judge.answered(same, 0, ("z",))


def test_judge_of_primaries_lets_a_dead_one_be_succeeded() -> None:
    """Two orders at one position are two primaries only while the first is at work."""
    leading = {0}
    judge = Judge(3, leading.__contains__)
    judge.replied(0, 1, "x")
    judge.replied(0, 1, "x")
    leading.clear()
    judge.replied(1, 1, "y")
    leading.add(0)
    with pytest.raises(Violation, match=judges.TWO_PRIMARIES):
        judge.replied(1, 1, "y")


def test_judge_of_states_compares_those_that_run() -> None:
    """Equal counts, equal orders: also of one that is further, and not of one that is down."""
    judge = Judge(3, lambda _: True)
    for laptop in ("x", "y"):
        judge.applied(0, laptop)
        judge.stepped(0)
    judge.applied(1, "x")
    judge.stepped(1)
    judge.crashed(0)
    judge.applied(1, "z")
    judge.stepped(1)
    judge.started(0)
    judge.applied(0, "y")
    with pytest.raises(Violation, match=judges.REPLICAS_DIFFER):
        judge.stepped(0)


def test_judge_of_the_end_demands_everything_everywhere() -> None:
    """What a client was told is with every replica that runs."""
    judge = Judge(2, lambda _: True)
    acknowledged(judge, "x")
    judge.applied(0, "x")
    with pytest.raises(Violation, match=f"{judges.LOST}: R0 acknowledged x to C0; in the end R1"):
        judge.finish()
