"""Histories larger than brute force can do: made from true executions, then told a little wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.linearizability import UNKNOWN, Call, Model, Verdict, check
from sim.linearizability.joins import joint_parts
from sim.linearizability.models.orders import Orders
from sim.linearizability.models.register import Register
from sim.linearizability.search import search
from tests.sim.linearizability.brute_force import Run, answer_of_orders, answer_of_register

REGISTER_ASKED = st.sampled_from(
    [("read", "x"), ("write", "x", 1), ("write", "x", 2), ("cas", "x", 1, 2), ("cas", "x", 2, 3), ("read", "y")]
)
ORDERS_ASKED = st.one_of(
    st.tuples(
        st.just("place"),
        st.integers(1, 3),
        st.integers(0, 4),
        st.sampled_from("ab"),
        st.booleans(),
        st.sampled_from([None, "6b", "6c"]),
    ),
    st.tuples(st.just("read"), st.integers(1, 3)),
    st.tuples(st.just("scan"), st.integers(0, 2)),
)


@st.composite
def executions(draw: st.DrawFn, asked: st.SearchStrategy[Any], run: Run, size: int = 14) -> list[Call]:
    """Calls that took effect one after the other, each at some moment between its beginning and its end."""
    calls: list[Call] = []
    inputs: tuple[Any, ...] = ()
    for place in range(draw(st.integers(0, size))):
        inputs = (*inputs, draw(asked))
        moment = 10 * place
        begin, end = moment - draw(st.integers(0, 40)), moment + draw(st.integers(0, 40))
        call = Call(process="P", begin=begin, end=end, input=inputs[-1], output=run(inputs), hint=place)
        calls.append(attrs.evolve(call, end=None, output=UNKNOWN) if draw(st.integers(0, 5)) == 0 else call)
    return calls


@settings(max_examples=40)
@given(executions(REGISTER_ASKED, answer_of_register), st.booleans())
def test_true_executions_of_registers_pass(calls: list[Call], hinted: bool) -> None:
    """Whatever really happened in one order is linearizable, with hints and without."""
    assert check(Register(), _with_hints(calls, hinted)).verdict is Verdict.LINEARIZABLE


@settings(max_examples=40)
@given(executions(ORDERS_ASKED, answer_of_orders), st.booleans())
def test_true_executions_of_the_orders_pass(calls: list[Call], hinted: bool) -> None:
    """As above, with scans that join the customers."""
    assert check(Orders(), _with_hints(calls, hinted)).verdict is Verdict.LINEARIZABLE


def _with_hints(calls: Sequence[Call], hinted: bool) -> list[Call]:
    return [call if hinted else attrs.evolve(call, hint=None) for call in calls]


def _mixed(calls: list[Call], data: st.DataObject) -> list[Call]:
    """Give a few calls the answers of others, and all of them hints in any order."""
    mixed = list(calls)
    for _ in range(data.draw(st.integers(0, 2))):
        if mixed:
            i, j = (data.draw(st.integers(0, len(mixed) - 1)) for _ in range(2))
            if mixed[i].input[0] == mixed[j].input[0] and UNKNOWN not in (mixed[i].output, mixed[j].output):
                mixed[i] = attrs.evolve(mixed[i], output=mixed[j].output)
    hints = data.draw(st.permutations(range(len(mixed))))
    return [attrs.evolve(call, hint=hint) for call, hint in zip(mixed, hints, strict=True)]


@settings(max_examples=40)
@given(executions(ORDERS_ASKED, answer_of_orders, size=9), st.data())
def test_customer_by_customer_is_as_good_as_all_at_once(calls: list[Call], data: st.DataObject) -> None:
    """Partitions, points for scans and hints change how long it takes, never the verdict."""
    mixed = _mixed(calls, data)
    report = check(Orders(), mixed)
    joint, parts = joint_parts(Orders(), Orders().split(mixed), set(range(len(mixed))))
    assert report.verdict is search(joint, [part._replace(hint=None) for part in parts], 10**6).verdict


def _is_weaker(model: Model[Any], small: Sequence[Call]) -> bool:
    return check(model, small).verdict is Verdict.VIOLATION


@settings(max_examples=40)
@given(executions(REGISTER_ASKED, answer_of_register), st.data())
def test_a_counterexample_is_no_larger_than_it_must_be(calls: list[Call], data: st.DataObject) -> None:
    """It fails by itself, all its calls are of the history, and each of its answers is needed."""
    mixed = _mixed(calls, data)
    found = check(Register(), mixed).counterexample
    if found is None:
        return
    assert _is_weaker(Register(), [*found.calls, *found.either_way])
    for index, call in zip(found.indexes, found.calls, strict=True):
        assert (call.begin, call.end, call.output) == (mixed[index].begin, mixed[index].end, mixed[index].output)
    for left_out in range(len(found.calls)):
        rest = [
            attrs.evolve(call, end=None, output=UNKNOWN) if i == left_out else call
            for i, call in enumerate(found.calls)
        ]
        assert not _is_weaker(Register(), [*rest, *found.either_way])
