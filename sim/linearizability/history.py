"""Histories: who called what, when, and what was answered; and their form as lines of JSON.

One line is one call:

    {"process": "client 1", "begin": 120, "end": 180, "input": ["place", 7, 1, "x1", false, null], "output": ["placed"]}

`begin` and `end` are whole numbers of one clock that all callers share, in any unit. A call ended before
another began only if its `end` is below the other's `begin`: equal times count as overlapping, so a coarse
clock makes the check weaker and never wrong. `"end": null` is a call whose outcome is unknown: a time-out,
a lost connection, a caller that died. A call that certainly had no effect does not belong into a history.

A line may have a `hint`: the call's place among the others as the system itself tells it, such as an index
in its log. The search tries that order first, and is as thorough as ever where it does not fit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import attrs

from trio_pb.errors import ConfigError

if TYPE_CHECKING:
    from sim.linearizability.model import AnyModel

__all__ = ["UNKNOWN", "Call", "HistoryError", "Value", "read_history", "write_history"]

# What inputs and outputs are made of: JSON with arrays as tuples, so that they can be compared and hashed.
Value: TypeAlias = "str | int | float | bool | tuple[Value, ...] | None"

DEPTH_MAX = 16  # Arrays within arrays, in an input or output; our deepest model has 3.

_FIELDS = frozenset({"process", "begin", "end", "input", "output", "hint"})


class HistoryError(ConfigError):
    """A history makes no sense; the message names the line and what is wrong with it."""


class _Unknown(Enum):
    UNKNOWN = "?"


UNKNOWN: Final = _Unknown.UNKNOWN  # The output of a call that nobody saw end.


@attrs.frozen(kw_only=True)
class Call:
    """One call, from its beginning to its answer. Times are whole numbers of one clock, in any unit."""

    process: str  # Who called, for people.
    begin: int
    end: int | None  # None: the outcome is unknown.
    input: Any  # What was asked, as the model understands it; hashable.
    output: Any = UNKNOWN  # What was answered; UNKNOWN if and only if `end` is None.
    hint: int | None = None  # Its place as the system tells it: what to try first, and nothing that is believed.

    def __attrs_post_init__(self) -> None:
        if self.end is not None and self.end < self.begin:
            raise HistoryError(f"a call of {self.process} ends at {self.end}, before it begins at {self.begin}")
        if (self.end is None) != (self.output is UNKNOWN):
            raise HistoryError(f"a call of {self.process}: an answer needs an end, and an end needs an answer")


def read_history(path: Path, model: AnyModel) -> list[Call]:
    """Read a file with one call a line, as `model` understands them.

    Raises:
        HistoryError: a line is no call of this model.
        OSError: the file cannot be read.
    """
    return list(_calls(path, model))


def _calls(path: Path, model: AnyModel) -> Iterator[Call]:
    with path.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield _parse(line, model)
                    except HistoryError as error:
                        raise HistoryError(f"{path}, line {number}: {error}") from error
        except UnicodeDecodeError as error:
            raise HistoryError(f"{path}: not UTF-8 text, which lines of JSON are") from error


def _parse(line: str, model: AnyModel) -> Call:
    try:
        fields: object = json.loads(line)
    except (ValueError, RecursionError) as error:  # A number of thousands of digits; arrays as deep.
        raise HistoryError(f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise HistoryError("not an object with process, begin, end, input and output")
    record = cast("dict[str, object]", fields)
    if unknown := sorted(record.keys() - _FIELDS):
        raise HistoryError(f"unknown field {unknown[0]!r}; there are {', '.join(sorted(_FIELDS))}")
    begin, end, hint = record.get("begin"), record.get("end"), record.get("hint")
    if type(begin) is not int or not (end is None or type(end) is int) or not (hint is None or type(hint) is int):
        raise HistoryError("begin must be a whole number; end and hint, a whole number or null")
    call = Call(
        process=str(record.get("process", "")),
        begin=begin,
        end=end,
        input=_hashable(record.get("input"), DEPTH_MAX),
        output=UNKNOWN if end is None else _hashable(record.get("output"), DEPTH_MAX),
        hint=hint,
    )
    model.validate(call.input, call.output)
    return call


def _hashable(value: object, depth: int) -> Value:
    if isinstance(value, list):
        if depth == 0:
            raise HistoryError(f"an input or output must not nest deeper than {DEPTH_MAX} arrays")
        return tuple([_hashable(item, depth - 1) for item in cast("list[object]", value)])
    if isinstance(value, dict):
        raise HistoryError("an input or output must not contain objects; write arrays")
    return cast("Value", value)


def write_history(path: Path, calls: Iterable[Call]) -> None:
    """Write calls, one a line, in the order given."""
    with path.open("w", encoding="utf-8") as file:
        for call in calls:
            fields = {"process": call.process, "begin": call.begin, "end": call.end, "input": call.input}
            if call.output is not UNKNOWN:
                fields["output"] = call.output
            if call.hint is not None:
                fields["hint"] = call.hint
            file.write(json.dumps(fields, ensure_ascii=False) + "\n")
