"""Registers with read, write and compare-and-set, any number of them by name."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from sim.linearizability.history import UNKNOWN, Call, HistoryError
from sim.linearizability.model import Model, Part, shape_error, split_by_name

__all__ = ["Register"]

FORMS = '["read", name], ["write", name, value], ["cas", name, old, new]'


class Register(Model[tuple[object]]):
    """Inputs and answers; values are text, whole numbers or null, and null is what a register begins with.

    ("read", name) -> value; ("write", name, value) -> None; ("cas", name, old, new) -> whether it was set.
    """

    name = "register"

    def initial(self) -> tuple[object]:
        """Nothing was written; the value stands in a tuple, since None is one."""
        return (None,)

    def step(self, state: tuple[object], asked: Any, answered: Any) -> tuple[object] | None:
        """Read, write or compare and set."""
        match asked:
            case ("read", _):
                return state if answered is UNKNOWN or answered == state[0] else None
            case ("write", _, value):
                return (value,)
            case ("cas", _, old, new):
                is_set = state[0] == old
                if answered is not UNKNOWN and answered != is_set:
                    return None
                return (new,) if is_set else state
            case _:
                raise shape_error(asked, FORMS)

    def is_read(self, asked: Any, answered: Any) -> bool:
        """Reads, and comparisons that failed."""
        return asked[0] == "read" or (asked[0] == "cas" and answered is False)

    def split(self, calls: Sequence[Call]) -> Mapping[Hashable, Sequence[Part]]:
        """Each register by itself."""
        return split_by_name(calls)

    def validate(self, asked: Any, answered: Any) -> None:
        """Refuse other inputs, and answers that no register gives."""
        match asked:
            case ("read", name):
                values: tuple[object, ...] = () if answered is UNKNOWN else (answered,)
            case ("write", name, value):
                values = (value,)
                if answered is not UNKNOWN and answered is not None:
                    raise HistoryError(f"output {answered!r}: a write is answered by null")
            case ("cas", name, old, new):
                values = (old, new)
                if answered is not UNKNOWN and type(answered) is not bool:
                    raise HistoryError(f"output {answered!r}: a cas is answered by true or false")
            case _:
                raise shape_error(asked, FORMS)
        for value in (name, *values):
            # True == 1 in Python: of booleans the model could not tell.
            if value is not None and type(value) not in (str, int):
                raise HistoryError(f"{value!r}: names and values must be text, whole numbers or null")

    def describe_state(self, state: tuple[object]) -> str:
        """Say its value."""
        return repr(state[0])

    def describe_key(self, key: Hashable) -> str:
        """Say its name."""
        return f"register {key!r}"
