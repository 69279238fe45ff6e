"""Choices are drawn by key: stable, sparse, replayable."""

from __future__ import annotations

from sim.choices import Choices, Key


def _draw(choices: Choices, skip: int | None = None) -> dict[int, bool]:
    return {index: choices.flag(("lose", index), 0.5) for index in range(200) if index != skip}


def test_removing_one_draw_changes_no_other() -> None:
    """A draw depends on its key, not on how many came before."""
    whole, holed = _draw(Choices(7)), _draw(Choices(7), skip=20)
    assert {index: value for index, value in whole.items() if index != 20} == holed
    assert set(whole.values()) == {True, False}


def test_only_deviations_are_recorded() -> None:
    """Defaults leave no trace."""
    choices = Choices(7)
    drawn = _draw(choices)
    number = choices.number(("size",), 0, 0, 0)
    assert number == 0
    assert choices.made == {("lose", index): 1 for index, value in drawn.items() if value}


def test_record_replays_without_the_seed() -> None:
    """The recorded choices alone bring back every decision; what is left out takes its default."""
    first = Choices(7)
    drawn = _draw(first)
    size = first.number(("size",), 1, 1000, 1)
    again = Choices(99, first.made)
    assert _draw(again) == drawn
    assert again.number(("size",), 1, 1000, 1) == size
    fewer = dict(first.made)
    gone: Key = next(key for key in fewer if key[0] == "lose")
    del fewer[gone]
    assert Choices(99, fewer).flag(gone, 1.0) is False


def test_probability_is_met_and_seeds_differ() -> None:
    """About the right share of draws deviates, and others for another seed."""
    draws = [Choices(3).flag(("lose", "R0", index), 0.1) for index in range(4000)]
    assert 300 < sum(draws) < 500
    assert draws != [Choices(4).flag(("lose", "R0", index), 0.1) for index in range(4000)]


def test_latencies_have_their_mean_and_are_not_recorded() -> None:
    """Latencies come from the hash of seed and key."""
    choices = Choices(1)
    sample = [choices.latency(("link", index), 100, 1000) for index in range(4000)]
    assert min(sample) >= 100
    assert 900 < sum(sample) / len(sample) - 100 < 1100
    assert not choices.made
