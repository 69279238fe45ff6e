"""The search for one order of calls that respects time and the model.

Wing and Gong (1993) try every call that may come first, then every one that may come next, and go back
where the answers do not fit. Lowe (2017) made it practical: the calls stand in a linked list of beginnings
and ends, so that what may come next is what stands before the first end; and a pair of (set of calls
placed, state) that led nowhere once is never tried again.

Three things are added. A call that only reads is placed for good as soon as it fits: any order in which it
comes later stays right when it is moved there. Calls of unknown outcome are tried last, when nothing else
fits: most of them need not be placed at all. And of all calls the one is tried first that comes next by
their hints, if there are any: where the system tells the truth, nothing else need be tried.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from enum import Enum
from typing import Any, NamedTuple, TypeVar

import attrs

from sim.linearizability.history import UNKNOWN
from sim.linearizability.model import Model, Part

__all__ = ["Found", "Verdict", "search"]

S = TypeVar("S", bound=Hashable)

_END = -1  # In place of the number of a part: this entry is the end of one.


class Verdict(Enum):
    """What is known of a history."""

    LINEARIZABLE = "linearizable"
    VIOLATION = "violation"
    UNKNOWN = "unknown"  # The budget was spent before the search ended.


@attrs.frozen
class Found:
    """How a search ended."""

    verdict: Verdict
    order: tuple[int, ...]  # Of indexes into the parts: all that had to be placed, or the longest that fits.
    state: Hashable  # After them.
    steps: int  # Calls tried.


def search(model: Model[S], parts: Sequence[Part], budget_steps: int) -> Found:
    """Look for an order of `parts`, trying at most about `budget_steps` calls."""
    known = sorted((i for i, part in enumerate(parts) if part.end is not None), key=lambda i: parts[i].begin)
    # An unseen read has no effect and no answer: it says nothing.
    unseen = sorted(
        (i for i, part in enumerate(parts) if part.end is None and not model.is_read(part.input, UNKNOWN)),
        key=lambda i: parts[i].begin,
    )
    return _Search(model, parts, known, unseen).run(budget_steps)


class _Step(NamedTuple):
    """One call on the way, and how to go on when the way ends."""

    number: int  # Of the known or the unseen call.
    is_unseen: bool
    state: Any  # Before it.
    entry: int  # The cursors to go on with, had it not been placed.
    late: int


class _Search:
    """One search: the list of entries, the path so far, and what was tried."""

    # The type of states is the caller's, who gets one back unchanged: hence Any.
    def __init__(self, model: Model[Any], parts: Sequence[Part], known: list[int], unseen: list[int]) -> None:
        self._step = model.step
        self._parts = parts
        self._known = known
        self._unseen = unseen
        self._asked = [parts[i].input for i in known]
        self._answered = [parts[i].output for i in known]
        self._is_read = [model.is_read(parts[i].input, parts[i].output) for i in known]
        self._twin = self._earlier_twins()
        hinted = [(hint, number) for number, i in enumerate(known) if (hint := parts[i].hint) is not None]
        self._hinted = [number for _, number in sorted(hinted)]
        self._hinted_place = {number: place for place, number in enumerate(self._hinted)}
        self._list_entries()
        # Where the search is: sets of numbers are bits, cursors say what to try next.
        self._state: Any = model.initial()
        self._path: list[_Step] = []
        self._tried: set[tuple[int, int, int, Any]] = set()
        self._placed = 0
        self._placed_below = 0  # All known calls of a lower number are placed.
        self._unseen_placed = 0
        self._left = len(known)
        self._entry = self._after[0]
        self._late = 0  # Next unseen call, once the known ones were tried.
        self._is_new = True  # Nothing was tried here yet.
        self._next_hinted = 0  # All hinted calls before this place are placed.
        self._steps = 0

    def _list_entries(self) -> None:
        """Make the doubly linked list of beginnings and ends; entry 0 is its head.

        At equal times beginnings stand before ends: such calls overlap.
        """
        events: list[tuple[int, int, int]] = []
        for number, i in enumerate(self._known):
            part = self._parts[i]
            assert part.end is not None
            events.append((part.begin, 0, number))
            events.append((part.end, 1, number))
        events.sort()
        count = len(events)
        self._after = [*range(1, count + 1), 0]
        self._before = [count, *range(count)]
        self._number = [_END] * (count + 1)  # Entry -> number of the known call that begins there, or _END.
        self._time = [0] * (count + 1)
        self._end_entry = [0] * len(self._known)
        self._begin_entry = [0] * len(self._known)
        for entry, (time, kind, number) in enumerate(events, 1):
            self._time[entry] = time
            if kind:
                self._end_entry[number] = entry
            else:
                self._number[entry] = number
                self._begin_entry[number] = entry

    def _earlier_twins(self) -> list[int]:
        """For each unseen call, the last earlier one with the same input, or -1.

        One of the two can always stand for the other, so the later one is tried only once the earlier is placed.
        """
        last: dict[object, int] = {}
        twins: list[int] = []
        for unseen, i in enumerate(self._unseen):
            twins.append(last.get(self._parts[i].input, -1))
            last[self._parts[i].input] = unseen
        return twins

    def run(self, budget_steps: int) -> Found:
        """Search depth first, without recursion: histories are long."""
        deepest: tuple[tuple[int, ...], Any] = ((), self._state)
        while self._left:
            if (self._is_new and self._place_hinted()) or self._place_known() or self._place_unseen():
                continue
            if len(self._path) > len(deepest[0]):
                deepest = (self._order(), self._state)
            if self._steps > budget_steps:
                return Found(Verdict.UNKNOWN, *deepest, self._steps)
            if not self._go_back():
                return Found(Verdict.VIOLATION, *deepest, self._steps)
        return Found(Verdict.LINEARIZABLE, self._order(), self._state, self._steps)

    def _order(self) -> tuple[int, ...]:
        return tuple((self._unseen if step.is_unseen else self._known)[step.number] for step in self._path)

    # --- One step on --------------------------------------------------------------------------------

    def _place_hinted(self) -> bool:
        """Place the call that comes next by the hints, if it may and fits."""
        hinted, place = self._hinted, self._next_hinted
        while place < len(hinted) and self._placed >> hinted[place] & 1:
            place += 1
        self._next_hinted = place
        if place == len(hinted):
            return False
        wanted = hinted[place]
        entry = self._entry
        while (number := self._number[entry]) not in (_END, wanted):
            entry = self._after[entry]
        if number == _END or (following := self._try(wanted)) is None:
            return False
        self._place(wanted, following, self._entry)  # From the first on, should this lead nowhere.
        return True

    def _place_known(self) -> bool:
        """Place the next call that fits, of those that began before the first end."""
        entry = self._entry
        while (number := self._number[entry]) != _END:
            entry_after = self._after[entry]
            following = self._try(number)
            if following is not None:
                self._place(number, following, entry_after)
                return True
            entry = entry_after
        self._entry = entry
        return False

    def _try(self, number: int) -> Any:
        """Return the state after a call, None if it does not fit or led nowhere before."""
        self._steps += 1
        following = self._step(self._state, self._asked[number], self._answered[number])
        if following is None or self._is_read[number]:
            return following
        placed, below = self._placed | 1 << number, self._placed_below
        while placed >> below & 1:
            below += 1
        return self._untried(placed >> below, below, self._unseen_placed, following)

    def _untried(self, placed: int, below: int, unseen_placed: int, following: Any) -> Any:
        key = (placed, below, unseen_placed, following)
        if key in self._tried:
            return None
        self._tried.add(key)
        return following

    def _place(self, number: int, following: Any, entry_then: int) -> None:
        self._path.append(_Step(number, False, self._state, entry_then, 0))
        self._placed |= 1 << number
        while self._placed >> self._placed_below & 1:
            self._placed_below += 1
        self._left -= 1
        after, before = self._after, self._before
        for entry in (self._begin_entry[number], self._end_entry[number]):
            after[before[entry]] = after[entry]
            before[after[entry]] = before[entry]
        self._arrive(following)

    def _place_unseen(self) -> bool:
        """Let a call whose outcome nobody knows take effect, of those that began before the first end."""
        entry, unseen = self._entry, self._unseen
        while self._late < len(unseen) and self._parts[unseen[self._late]].begin <= self._time[entry]:
            number = self._late
            self._late += 1
            twin = self._twin[number]
            if self._unseen_placed >> number & 1 or (twin >= 0 and not self._unseen_placed >> twin & 1):
                continue
            self._steps += 1
            following = self._step(self._state, self._parts[unseen[number]].input, UNKNOWN)
            if following is None or following == self._state:
                continue
            unseen_placed = self._unseen_placed | 1 << number
            below = self._placed_below
            if self._untried(self._placed >> below, below, unseen_placed, following) is not None:
                self._path.append(_Step(number, True, self._state, entry, self._late))
                self._unseen_placed = unseen_placed
                self._arrive(following)
                return True
        return False

    def _arrive(self, state: Any) -> None:
        self._state = state
        self._entry = self._after[0]
        self._late = 0
        self._is_new = True

    # --- And back -----------------------------------------------------------------------------------

    def _go_back(self) -> bool:
        """Take calls back up to one that something else can be tried for; return whether there was one."""
        while self._path:
            step = self._path.pop()
            number = step.number
            if step.is_unseen:
                self._unseen_placed ^= 1 << number
            else:
                self._take_back(number)
                if self._is_read[number]:
                    continue
            self._state, self._entry, self._late = step.state, step.entry, step.late
            self._is_new = False
            return True
        return False

    def _take_back(self, number: int) -> None:
        self._placed ^= 1 << number
        self._placed_below = min(self._placed_below, number)
        self._next_hinted = min(self._next_hinted, self._hinted_place.get(number, self._next_hinted))
        self._left += 1
        # In the opposite order: each entry still knows the neighbours that it had when it was taken out.
        after, before = self._after, self._before
        for entry in (self._end_entry[number], self._begin_entry[number]):
            after[before[entry]] = entry
            before[after[entry]] = entry
