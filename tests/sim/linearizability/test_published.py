"""Histories from the literature whose verdicts are known, written down anew.

Times count the events of the published history; a call without an end had no answer there.
"""

from __future__ import annotations

from typing import Any

import pytest

from sim.linearizability import UNKNOWN, Call, Verdict, check
from sim.linearizability.models import MODELS

_Row = tuple[str, int, int | None, tuple[Any, ...], Any]  # Process, begin, end, input, output.


def _enqueue(process: str, begin: int, end: int, value: str) -> _Row:
    return process, begin, end, ("enqueue", "q", value), None


def _dequeue(process: str, begin: int, end: int, value: str) -> _Row:
    return process, begin, end, ("dequeue", "q"), value


def _write(process: str, begin: int, end: int | None, value: int) -> _Row:
    return process, begin, end, ("write", "x", value), UNKNOWN if end is None else None


def _read(process: str, begin: int, end: int, value: int | None) -> _Row:
    return process, begin, end, ("read", "x"), value


HERLIHY_WING = "Herlihy and Wing, Linearizability, TOPLAS 1990, figure 1"
PORCUPINE = "tests of Porcupine, after a quiz of MIT 6.824, 2017"
KNOSSOS = "data of Knossos, cas-register"

PUBLISHED: list[tuple[str, str, bool, list[_Row]]] = [
    # The queue of figure 1: two enqueues overlap, so either value may come first,
    (
        f"{HERLIHY_WING} (a)",
        "queue",
        True,
        [
            _enqueue("A", 1, 3, "x"),
            _enqueue("B", 2, 4, "y"),
            _dequeue("B", 5, 6, "x"),
            _dequeue("A", 7, 9, "y"),
            _enqueue("A", 10, 11, "z"),
        ],
    ),
    # but x was in it before y was asked for, and y came first;
    (
        f"{HERLIHY_WING} (b)",
        "queue",
        False,
        [_enqueue("A", 1, 2, "x"), _enqueue("B", 3, 4, "y"), _dequeue("A", 5, 6, "y")],
    ),
    # a value may be taken out while the call that puts it in is under way,
    (
        f"{HERLIHY_WING} (c)",
        "queue",
        True,
        [_enqueue("A", 1, 4, "x"), _dequeue("B", 2, 3, "x")],
    ),
    # but not twice.
    (
        f"{HERLIHY_WING} (d)",
        "queue",
        False,
        [
            _enqueue("A", 1, 3, "x"),
            _enqueue("B", 2, 4, "y"),
            _dequeue("A", 5, 7, "y"),
            _dequeue("C", 6, 8, "y"),
        ],
    ),
    # Two reads during a write: the later one sees the write or what was before it, the earlier one too.
    (
        f"{PORCUPINE}, both orders possible",
        "register",
        True,
        [_write("0", 0, 100, 100), _read("1", 25, 75, 100), ("2", 30, 60, ("read", "x"), None)],
    ),
    # What one read saw, a read that began after it must not have lost again.
    (
        f"{PORCUPINE}, seen and unseen",
        "register",
        False,
        [_write("0", 0, 100, 200), _read("1", 10, 30, 200), ("2", 40, 90, ("read", "x"), None)],
    ),
    # A value that nobody wrote, with a harmless call after it that was once taken for the culprit.
    (
        f"{KNOSSOS}/bad/rethink-fail-minimal",
        "register",
        False,
        [_write("0", 0, 1, 0), _read("1", 2, 4, 3), _write("2", 3, 5, 4), _read("3", 6, 7, 4)],
    ),
    # The one write of that value failed, so it is not in the history.
    (f"{KNOSSOS}/bad/immediate-failure", "register", False, [_read("1", 0, 3, 3)]),
    # A read without an answer hurts nobody.
    (
        f"{KNOSSOS}/good/cas-register-bug",
        "register",
        True,
        [
            _write("4", 0, 1, 2),
            ("6", 2, None, ("read", "x"), UNKNOWN),
            _write("1", 3, 4, 4),
            _read("14", 5, 6, 4),
            _write("9", 7, 8, 0),
            _read("19", 9, 10, 0),
        ],
    ),
    # A write without an answer may take effect long after,
    (
        "crashed write, seen late",
        "register",
        True,
        [_write("0", 0, None, 1), _read("1", 1, 2, None), _read("1", 3, 4, 1)],
    ),
    # but it cannot be undone.
    (
        "crashed write, seen and unseen",
        "register",
        False,
        [_write("0", 0, None, 1), _read("1", 1, 2, 1), _read("1", 3, 4, None)],
    ),
]


@pytest.mark.parametrize(("source", "model", "good", "rows"), PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_published_verdict(source: str, model: str, good: bool, rows: list[_Row]) -> None:
    """The verdict is the published one."""
    calls = [Call(process=p, begin=b, end=e, input=i, output=o) for p, b, e, i, o in rows]
    report = check(MODELS[model](), calls)
    assert report.verdict is (Verdict.LINEARIZABLE if good else Verdict.VIOLATION), source


def test_the_culprit_is_named() -> None:
    """The counterexample is the read of what nobody wrote, and not the call after it."""
    rows = next(rows for source, _, _, rows in PUBLISHED if "rethink" in source)
    calls = [Call(process=p, begin=b, end=e, input=i, output=o) for p, b, e, i, o in rows]
    counterexample = check(MODELS["register"](), calls).counterexample
    assert counterexample is not None
    assert [call.input for call in counterexample.calls] == [("read", "x")]
    assert [call.output for call in counterexample.calls] == [3]
