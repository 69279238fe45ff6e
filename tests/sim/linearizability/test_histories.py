"""Histories as files, what the orders model knows beyond small histories, and budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sim.linearizability import UNKNOWN, Call, HistoryError, Verdict, check, read_history, write_history
from sim.linearizability.models import MODELS
from sim.linearizability.models.orders import DUPLICATE, PLACED, Orders
from sim.linearizability.models.register import Register


def _call(begin: int, end: int | None, asked: Any, answered: Any = UNKNOWN, hint: int | None = None) -> Call:
    return Call(process="P", begin=begin, end=end, input=asked, output=answered, hint=hint)


CALLS = [
    _call(0, 5, ("place", 7, 1, "x1", False, "6b"), PLACED, 3),
    _call(2, None, ("place", 7, 2, "thinkpad", True, None)),
    _call(6, 9, ("read", 7), (1, 1, "x1")),
    _call(6, 9, ("scan", 0), (((7, 1, 1, "x1"),), None)),
]


def test_a_file_has_what_was_written(tmp_path: Path) -> None:
    """Inputs, outputs, unknown outcomes and hints come back."""
    write_history(tmp_path / "history", CALLS)
    assert read_history(tmp_path / "history", Orders()) == CALLS


@pytest.mark.parametrize(
    ("model", "line", "told"),
    [
        ("orders", "placed", "not JSON"),
        ("orders", "[1]", "not an object"),
        ("orders", '{"begin": 1, "start": 2}', "unknown field 'start'"),
        ("orders", '{"begin": "1"}', "begin must be a whole number"),
        (
            "orders",
            '{"begin": 2, "end": 1, "input": ["read", 1], "output": [1, 1, "a"]}',
            "ends at 1, before it begins",
        ),
        ("orders", '{"begin": 1, "end": 2, "input": ["pay", 7], "output": null}', "input pay 7: must be one of"),
        (
            "orders",
            '{"begin": 1, "end": 2, "input": ["read", 7], "output": "x1"}',
            "must be [last order, orders, laptop]",
        ),
        ("orders", '{"begin": 1, "end": 2, "input": ["read", {"a": 1}], "output": 1}', "must not contain objects"),
        ("orders", '{"begin": ' + "9" * 5000 + "}", "not JSON"),
        ("orders", "[" * 50_000, "not JSON"),
        ("orders", '{"begin": 1, "end": 2, "input": ' + "[" * 17 + "]" * 17 + "}", "deeper than 16 arrays"),
        ("register", '{"begin": 1, "end": 2, "input": ["cas", "x", 1, 2], "output": null}', "by true or false"),
        ("register", '{"begin": 1, "end": 2, "input": ["write", "x", true], "output": null}', "True: names and values"),
        ("queue", '{"begin": 1, "end": 2, "input": ["enqueue", "x", 1], "output": 1}', "answered by null"),
        ("counter", '{"begin": 1, "end": 2, "input": ["read", "x"], "output": "1"}', "a whole number"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, model: str, line: str, told: str) -> None:
    """The error says where and what."""
    path = tmp_path / "history"
    path.write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(HistoryError) as caught:
        read_history(path, MODELS[model]())
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert told in str(caught.value)


def test_which_unknown_call_took_effect_matters_later() -> None:
    """Two of them lead to the same state; only one of them can do it once more after the next write."""
    calls = [
        _call(0, None, ("write", "x", 1)),
        _call(0, None, ("cas", "x", None, 1)),
        _call(1, 2, ("read", "x"), 1),
        _call(3, 4, ("write", "x", 2), None),
        _call(5, 6, ("read", "x"), 1),
    ]
    assert check(Register(), calls).verdict is Verdict.LINEARIZABLE
    assert check(Register(), calls[1:]).verdict is Verdict.VIOLATION


def test_a_counter_that_lost_an_addition() -> None:
    """Two sums that cannot both be."""
    calls = [_call(0, 5, ("add", "c", 1), 1), _call(0, 5, ("add", "c", 2), 2)]
    assert check(MODELS["counter"](), calls).verdict is Verdict.VIOLATION
    assert check(MODELS["counter"](), [calls[0], _call(0, 5, ("add", "c", 2), 3)]).verdict is Verdict.LINEARIZABLE


def test_two_scans_that_see_two_orders_of_events() -> None:
    """For each customer alone all is well; no moment fits both scans."""
    places = [_call(0, 9, ("place", customer, 1, "a", False, None), PLACED) for customer in (1, 2)]
    scans = [_call(0, 9, ("scan", 0), (((customer, 1, 1, "a"),), None)) for customer in (1, 2)]
    report = check(Orders(), [*places, *scans])
    assert report.counterexample is not None
    assert report.counterexample.indexes == (2, 3)
    assert "customer 1: read -> #1 'a', 1 placed; customer 2: read -> no orders" in report.text
    assert check(Orders(), [*places, scans[0]]).verdict is Verdict.LINEARIZABLE


def test_a_scan_that_misses_an_order_placed_before_another_that_it_sees() -> None:
    """Each customer alone could have been read at some moment of the scan, but at different ones."""
    early = _call(2, 3, ("place", 1, 1, "a", False, None), PLACED)
    late = _call(4, 5, ("place", 2, 1, "a", False, None), PLACED)
    scan = _call(0, 9, ("scan", 0), (((2, 1, 1, "a"),), None))
    assert check(Orders(), [early, late, scan]).verdict is Verdict.VIOLATION
    whole = _call(0, 9, ("scan", 0), (((1, 1, 1, "a"), (2, 1, 1, "a")), None))
    assert check(Orders(), [early, late, whole]).verdict is Verdict.LINEARIZABLE


def test_a_page_says_nothing_of_customers_beyond_it() -> None:
    """A scan that got to customer 1 only is right without customer 2."""
    places = [_call(0, 1, ("place", customer, 1, "a", False, None), PLACED) for customer in (1, 2)]
    page = ((1, 1, 1, "a"),)
    assert check(Orders(), [*places, _call(2, 3, ("scan", 0), (page, 1))]).verdict is Verdict.LINEARIZABLE
    assert check(Orders(), [*places, _call(2, 3, ("scan", 0), (page, None))]).verdict is Verdict.VIOLATION
    assert check(Orders(), [*places, _call(2, 3, ("scan", 2), ((), None))]).verdict is Verdict.VIOLATION


def test_keys_are_forgotten_only_when_enough_was_ordered() -> None:
    """A used key may count as new once the ring of recent orders can have turned, and not before."""
    keyed = ("place", 1, 1, "a", False, "6b")
    calls = [
        _call(0, 1, keyed, PLACED),
        _call(2, 3, ("place", 1, 2, "b", False, None), PLACED),
        _call(4, 5, keyed, ("rejected", "order_number_not_above_last")),
    ]
    assert check(Orders(recent_orders_max=3), calls).verdict is Verdict.VIOLATION
    assert check(Orders(recent_orders_max=2), calls).verdict is Verdict.LINEARIZABLE
    known = [*calls[:2], _call(4, 5, keyed, DUPLICATE)]
    assert check(Orders(recent_orders_max=2), known).verdict is Verdict.LINEARIZABLE


def _crowd(size: int, read: int) -> list[Call]:
    """Writes of unlike values, all at once, then a read."""
    writes = [_call(0, 9, ("write", "x", value), None) for value in range(size)]
    return [*writes, _call(0, 9, ("read", "x"), read), _call(10, 11, ("read", "x"), size)]


def test_a_search_that_is_too_long_says_so() -> None:
    """The verdict is unknown, not a guess; with a hint the same history takes a step for each call."""
    report = check(Register(), _crowd(40, 3), budget_steps=10_000)
    assert report.verdict is Verdict.UNKNOWN
    assert "budget was spent" in report.text
    *writes, read, _ = _crowd(40, 3)
    order = [*reversed(writes), _call(10, 11, ("read", "x"), 0)]
    order.insert(order.index(writes[2]), read)
    hinted = [_call(call.begin, call.end, call.input, call.output, hint) for hint, call in enumerate(order)]
    report = check(Register(), hinted)
    assert (report.verdict, report.steps) == (Verdict.LINEARIZABLE, len(order))


def test_a_long_history_takes_a_step_for_each_call() -> None:
    """Ten thousand calls on one register, two at a time."""
    calls = [
        call
        for i in range(5000)
        for call in (
            _call(10 * i, 10 * i + 15, ("write", "x", i), None),
            _call(10 * i + 6, 10 * i + 9, ("read", "x"), i),
        )
    ]
    report = check(Register(), calls)
    assert report.verdict is Verdict.LINEARIZABLE
    assert report.steps < 4 * len(calls)
