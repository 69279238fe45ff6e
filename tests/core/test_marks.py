"""Every mark names a branch that exists, and every reason to abdicate has its mark."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from trio_pb.core.marks import Mark, reach, take_reached

CORE = Path(__file__).parents[2] / "trio_pb" / "core"


def _nodes() -> Iterator[ast.AST]:
    for path in sorted(CORE.glob("*.py")):
        yield from ast.walk(ast.parse(path.read_text()))


def _abdication_reasons() -> set[str]:
    return {
        argument.value
        for node in _nodes()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "abdicate"
        for argument in node.args[:1]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def test_each_mark_is_reached_somewhere_in_the_core() -> None:
    """A mark that no branch reaches would be reported as a hole for ever."""
    named = {
        node.attr
        for node in _nodes()
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Mark"
    }
    by_reason = {f"ABDICATED_{reason.upper()}" for reason in _abdication_reasons()}
    assert named | by_reason == {mark.name for mark in Mark}


def test_texts_are_distinct_and_begin_with_their_subject() -> None:
    """Reports list marks by text alone."""
    assert len({str(mark) for mark in Mark}) == len(Mark)
    assert all(str(mark).partition(": ")[2] for mark in Mark)


def test_marks_are_taken_once() -> None:
    """Who takes them begins afresh."""
    take_reached()
    reach(Mark.TRUNCATED)
    reach(Mark.TRUNCATED)
    assert take_reached() == {Mark.TRUNCATED}
    assert take_reached() == frozenset()
