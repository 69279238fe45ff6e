"""From a history that fits no order to the few calls that show it.

Three ways of making a history smaller turn no good history into a bad one, so that the small one is
evidence against the whole: to stop watching earlier, to leave out a call that only reads, and to forget
the outcome of a call, which then may have taken effect or not. Leaving out a write is none of them: what
was read from it would look like an invention.
"""

from __future__ import annotations

from collections.abc import Sequence

from sim.linearizability.model import AnyModel, Part
from sim.linearizability.search import Verdict, search

__all__ = ["minimise"]


def minimise(model: AnyModel, parts: Sequence[Part], budget_steps: int) -> list[Part]:
    """Return a smaller history that fits no order either; its calls of unknown outcome count either way.

    No further outcome of it can be forgotten, unless a search for that costs more than `budget_steps`.
    """
    return _forget(model, _shortest_prefix(model, parts, budget_steps), budget_steps)


def _fails(model: AnyModel, parts: Sequence[Part], budget_steps: int) -> bool:
    return search(model, parts, budget_steps).verdict is Verdict.VIOLATION


def _shortest_prefix(model: AnyModel, parts: Sequence[Part], budget_steps: int) -> list[Part]:
    """What was known when it first became impossible; a prefix of a good history is good, so halving finds it."""
    ends = sorted({part.end for part in parts if part.end is not None})
    low, high = 0, len(ends) - 1  # The answer is among them.
    while low < high:
        middle = (low + high) // 2
        if _fails(model, _prefix(parts, ends[middle]), budget_steps):
            high = middle
        else:
            low = middle + 1
    return _prefix(parts, ends[low])


def _prefix(parts: Sequence[Part], now: int) -> list[Part]:
    """What has been seen when the time is `now`."""
    return [
        part if part.end is not None and part.end <= now else part.forgotten() for part in parts if part.begin <= now
    ]


def _forget(model: AnyModel, parts: list[Part], budget_steps: int) -> list[Part]:
    """Forget one stretch of outcomes after the other, ever shorter ones (Zeller's ddmin), oldest first."""
    parts = _without_unseen_reads(model, parts)
    size = len(parts)
    while size:
        start, forgot = 0, False
        while start < len(parts):
            stretch = parts[start : start + size]
            if any(part.end is not None for part in stretch):
                kept = _without_unseen_reads(model, [part.forgotten() for part in stretch])
                candidate = [*parts[:start], *kept, *parts[start + size :]]
                if _fails(model, candidate, budget_steps):
                    parts, forgot = candidate, True
                    start += len(kept)
                    continue
            start += size
        if size > 1 or not forgot:
            size //= 2
    return parts


def _without_unseen_reads(model: AnyModel, parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if part.end is not None or not model.is_read(part.input, part.output)]
