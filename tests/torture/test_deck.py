"""What is dealt: each kind equally often, the same for a seed, and nothing that leaves the fault model."""

from __future__ import annotations

from collections import Counter

import pytest

from trio_pb.testbed.torture.deck import BRISK, STEADY, Kind, Pace, deal

DAMAGING = {Kind.ROT, Kind.RUIN, Kind.READ_ERROR}
ENDING = {Kind.KILL, Kind.PAUSE, Kind.WRITE_ERROR, Kind.FLUSH_ERROR, *DAMAGING}


@pytest.mark.parametrize("pace", [BRISK, STEADY], ids=["brisk", "steady"])
@pytest.mark.parametrize("seed", range(20))
def test_a_deck_has_each_kind_once(seed: int, pace: Pace) -> None:
    """Whatever the hands."""
    for deck in range(3):
        kinds = Counter(card.kind for hand in deal(seed, deck, pace) for card in hand)
        assert kinds == dict.fromkeys(Kind, 1)


def test_the_seed_decides_and_nothing_else() -> None:
    """Equal seeds, equal decks; another seed or another deck is another."""
    assert deal(7, 0, STEADY) == deal(7, 0, STEADY)
    assert deal(7, 0, STEADY) != deal(8, 0, STEADY)
    assert deal(7, 0, STEADY) != deal(7, 1, STEADY)


@pytest.mark.parametrize("seed", range(50))
def test_no_hand_leaves_the_fault_model(seed: int) -> None:
    """One replica's copies, one clock; a power cut is alone with all processes, and one of three is always left."""
    for hand in deal(seed, 0, STEADY):
        kinds = {card.kind for card in hand}
        assert len(kinds & DAMAGING) <= 1
        assert len(kinds & {Kind.CLOCK_JUMP, Kind.CLOCK_DRIFT}) <= 1
        assert len(kinds & ENDING) <= (0 if Kind.POWER_CUT in kinds else 2)


def test_several_things_happen_at_once_but_not_always() -> None:
    """Hands of one, and hands of many."""
    sizes = Counter(len(hand) for seed in range(50) for hand in deal(seed, 0, STEADY))
    assert sizes[1] > 0
    assert sum(sizes[size] for size in sizes if size >= 3) > 50


def test_times_are_those_of_the_pace() -> None:
    """The first card of a hand begins at once, all within the bounds."""
    for seed in range(20):
        for hand in deal(seed, 0, STEADY):
            assert hand[0].begin == 0
            for card in hand:
                assert 0 <= card.begin <= STEADY.begin_max
                assert STEADY.fault_min <= card.seconds <= STEADY.fault_max
