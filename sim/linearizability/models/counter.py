"""Counters, any number of them by name."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from sim.linearizability.history import UNKNOWN, Call, HistoryError
from sim.linearizability.model import Model, Part, shape_error, split_by_name

__all__ = ["Counter"]

FORMS = '["add", name, number], ["read", name]'


class Counter(Model[int]):
    """Inputs and answers; a counter begins with 0.

    ("add", name, number) -> the sum after it; ("read", name) -> the sum.
    """

    name = "counter"

    def initial(self) -> int:
        """Nothing was added."""
        return 0

    def step(self, state: int, asked: Any, answered: Any) -> int | None:
        """Add, and answer the sum."""
        match asked:
            case ("add", _, int(number)):
                state += number
            case ("read", _):
                pass
            case _:
                raise shape_error(asked, FORMS)
        return state if answered is UNKNOWN or answered == state else None

    def is_read(self, asked: Any, answered: Any) -> bool:
        """Reads only."""
        return bool(asked[0] == "read")

    def split(self, calls: Sequence[Call]) -> Mapping[Hashable, Sequence[Part]]:
        """Each counter by itself."""
        return split_by_name(calls)

    def validate(self, asked: Any, answered: Any) -> None:
        """Refuse other inputs, and what is no sum."""
        match asked:
            case ("add", str(), int()) | ("read", str()):
                pass
            case _:
                raise shape_error(asked, FORMS)
        if answered is not UNKNOWN and type(answered) is not int:
            raise HistoryError(f"output {answered!r}: a counter answers with a whole number")

    def describe_key(self, key: Hashable) -> str:
        """Say its name."""
        return f"counter {key!r}"
