"""What a check found, for people and for programs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import attrs

from sim.linearizability.history import Call
from sim.linearizability.model import AnyModel, Part
from sim.linearizability.search import Found, Verdict

__all__ = ["Counterexample", "Report", "counterexample_of"]

DRAWING_WIDTH = 48
SHOWN_MAX = 40  # Calls of each kind that a text lists.


@attrs.frozen(kw_only=True)
class Counterexample:
    """Few calls that no order explains."""

    key: Hashable  # Of the partition; None where the history has only one.
    calls: tuple[Call, ...]  # In the order in which they began.
    indexes: tuple[int, ...]  # Of `calls` in the checked history.
    either_way: tuple[Call, ...]  # Calls that the proof needs neither with their effect nor without.
    text: str  # All of it, for people.


@attrs.frozen(kw_only=True)
class Report:
    """The verdict on a history."""

    verdict: Verdict
    model: str
    calls: int
    partitions: int
    steps: int  # Calls tried in the search.
    counterexample: Counterexample | None = None

    @property
    def text(self) -> str:
        """The verdict in words, with the counterexample if there is one."""
        checked = f"{_count(self.calls, 'call')} on {_count(self.partitions, 'object')}, {_count(self.steps, 'step')}"
        if self.counterexample is not None:
            return f"Not linearizable ({checked}).\n\n{self.counterexample.text}"
        if self.verdict is Verdict.UNKNOWN:
            return f"Undecided: the budget was spent ({checked}). A larger one may decide it."
        return f"Linearizable ({checked})."


def counterexample_of(
    model: AnyModel, key: Hashable, parts: Sequence[Part], calls: Sequence[Call], found: Found
) -> Counterexample:
    """Describe `parts`, a small history without an order; `found` is how the search of them ended."""
    seen = sorted((part for part in parts if part.end is not None), key=lambda part: part.begin)
    unseen = sorted((part for part in parts if part.end is None), key=lambda part: part.begin)
    lines = [_title(len(seen), model.describe_key(key)), ""]
    rows = [
        (calls[part.call].process, model.describe(part.input, part.output), f"{part.begin}..{part.end}")
        for part in seen
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    drawing = _drawing(seen)
    for row, bar in list(zip(rows, drawing, strict=True))[:SHOWN_MAX]:
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(f"  {cells}  {bar}".rstrip())
    if len(seen) > SHOWN_MAX:
        lines.append(f"  and {len(seen) - SHOWN_MAX} more")
    if unseen:
        lines += ["", "whether or not these took effect, at any time after they began:", ""]
        lines += [
            f"  {calls[part.call].process}  {model.describe(part.input, part.output)}  {part.begin}.."
            for part in unseen[:SHOWN_MAX]
        ]
        if len(unseen) > SHOWN_MAX:
            lines.append(f"  and {len(unseen) - SHOWN_MAX} more")
    lines += ["", *_dead_end(model, parts, found)]
    return Counterexample(
        key=key,
        calls=tuple(_call(part, calls) for part in seen),
        indexes=tuple(part.call for part in seen),
        either_way=tuple(_call(part, calls) for part in unseen),
        text="\n".join(lines),
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _title(seen: int, where: str) -> str:
    if seen == 1:
        return f"This call on {where} cannot have been answered so:"
    return f"These {seen} calls on {where} contradict each other:"


def _call(part: Part, calls: Sequence[Call]) -> Call:
    return Call(process=calls[part.call].process, begin=part.begin, end=part.end, input=part.input, output=part.output)


def _dead_end(model: AnyModel, parts: Sequence[Part], found: Found) -> list[str]:
    """Say how far an order gets, and what does not fit then."""
    state = model.describe_state(found.state)
    rest = [
        model.describe(part.input, part.output)
        for i, part in enumerate(parts)
        if part.end is not None and i not in found.order
    ]
    if not found.order:
        return [f"None of them can come first, in the state {state}."]
    lines = ["The longest order that fits:"]
    lines += [f"  {model.describe(parts[i].input, parts[i].output)}" for i in found.order[:SHOWN_MAX]]
    if len(found.order) > SHOWN_MAX:
        lines.append(f"  and {len(found.order) - SHOWN_MAX} more")
    return [*lines, f"Then the state is {state}, and this does not fit: {'; '.join(rest[:SHOWN_MAX])}."]


def _drawing(parts: Sequence[Part]) -> list[str]:
    """One bar for each call; equal distances between moments, whatever their times."""
    moments = sorted({time for part in parts for time in (part.begin, part.end) if time is not None})
    scale = (DRAWING_WIDTH - 1) / max(1, len(moments) - 1)
    column = {time: round(place * min(scale, 6)) for place, time in enumerate(moments)}
    bars: list[str] = []
    for part in parts:
        assert part.end is not None
        start, end = column[part.begin], column[part.end]
        bars.append(" " * start + ("|" + "-" * (end - start - 1) + "|" if end > start else "|"))
    return bars
