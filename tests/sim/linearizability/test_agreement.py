"""The checker says what the definition says, for all small histories.

The suite takes the smaller ones and a sample of the larger. All of them, up to six calls, take minutes:
`python -m tests.sim.linearizability.test_agreement`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from sim.linearizability import Call, Model, Verdict, check
from sim.linearizability.models.orders import Orders
from sim.linearizability.models.register import Register
from tests.sim.linearizability.alphabets import FEW_ORDERS, FEW_REGISTER, ORDERS, REGISTER
from tests.sim.linearizability.brute_force import (
    Letter,
    Run,
    answer_of_orders,
    answer_of_register,
    histories,
    history,
    intervals,
    is_explained,
)

FISHBURN = (1, 2, 5, 15, 53, 217)  # Interval orders of 1 to 6 elements (OEIS A022493).


def _compare(model: Model[Any], run: Run, found: Iterable[list[Call]]) -> tuple[int, int]:
    """Check each history in both ways; return how many there were and how many linearizable."""
    total = good = 0
    for calls in found:
        verdict = check(model, calls).verdict
        expected = Verdict.LINEARIZABLE if is_explained(calls, run) else Verdict.VIOLATION
        assert verdict is expected, calls
        total += 1
        good += verdict is Verdict.LINEARIZABLE
    return total, good


def _sample(count: int, alphabet: Sequence[Letter], size: int) -> Iterable[list[Call]]:
    source = random.Random(count)
    times = intervals(count)
    for _ in range(size):
        yield history(source.choice(times), [source.choice(alphabet) for _ in range(count)])


def test_all_ways_to_overlap_are_there() -> None:
    """As many as there are interval orders."""
    assert tuple(len(intervals(count)) for count in range(1, 6)) == FISHBURN[:5]


@pytest.mark.parametrize(("count", "alphabet"), [(1, REGISTER), (2, REGISTER), (3, REGISTER), (4, FEW_REGISTER)])
def test_every_history_of_a_register(count: int, alphabet: list[Letter]) -> None:
    """Reads, writes, compare-and-set and unknown outcomes."""
    total, good = _compare(Register(), answer_of_register, histories(count, alphabet))
    assert total == FISHBURN[count - 1] * len(alphabet) ** count
    assert 0 < good < total


@pytest.mark.parametrize(("count", "alphabet"), [(1, ORDERS), (2, ORDERS), (3, FEW_ORDERS)])
def test_every_history_of_the_orders(count: int, alphabet: list[Letter]) -> None:
    """Against the shipped machine: orders, overwrites, keys, reads, and scans that join customers."""
    total, good = _compare(Orders(), answer_of_orders, histories(count, alphabet))
    assert total == FISHBURN[count - 1] * len(alphabet) ** count
    assert 0 < good < total


@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_larger_histories_of_a_register(count: int) -> None:
    """A sample of each size."""
    assert _compare(Register(), answer_of_register, _sample(count, REGISTER, 800))[1]


@pytest.mark.parametrize(("count", "size"), [(3, 400), (4, 300), (5, 100), (6, 50)])
def test_larger_histories_of_the_orders(count: int, size: int) -> None:
    """A sample of each size."""
    assert _compare(Orders(), answer_of_orders, _sample(count, ORDERS, size))[1]


def _compare_all() -> None:
    """Print how many histories of each size agree."""
    kinds: list[tuple[str, Model[Any], Run, list[Letter], list[Letter]]] = [
        ("register", Register(), answer_of_register, REGISTER, FEW_REGISTER),
        ("orders", Orders(), answer_of_orders, ORDERS, FEW_ORDERS),
    ]
    for name, model, run, many, few in kinds:
        for count in range(1, 7):
            alphabet = many if count < 4 else few
            total, good = _compare(model, run, histories(count, alphabet))
            print(f"{name}, {count} calls of {len(alphabet)} kinds: {total} agree, {good} linearizable", flush=True)


if __name__ == "__main__":
    _compare_all()
