"""Queues, first in, first out; any number of them by name."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from sim.linearizability.history import UNKNOWN, Call, HistoryError
from sim.linearizability.model import Model, Part, shape_error, split_by_name

__all__ = ["Queue"]

FORMS = '["enqueue", name, value], ["dequeue", name]'


class Queue(Model[tuple[object, ...]]):
    """Inputs and answers; values are text or whole numbers.

    ("enqueue", name, value) -> None; ("dequeue", name) -> the oldest value, None from an empty queue.
    """

    name = "queue"

    def initial(self) -> tuple[object, ...]:
        """An empty queue."""
        return ()

    def step(self, state: tuple[object, ...], asked: Any, answered: Any) -> tuple[object, ...] | None:
        """Add at the end, take from the beginning."""
        match asked:
            case ("enqueue", _, value):
                return (*state, value)
            case ("dequeue", _):
                first = state[0] if state else None
                return state[1:] if answered is UNKNOWN or answered == first else None
            case _:
                raise shape_error(asked, FORMS)

    def is_read(self, asked: Any, answered: Any) -> bool:
        """To find it empty changes nothing."""
        return asked[0] == "dequeue" and answered is None

    def split(self, calls: Sequence[Call]) -> Mapping[Hashable, Sequence[Part]]:
        """Each queue by itself."""
        return split_by_name(calls)

    def validate(self, asked: Any, answered: Any) -> None:
        """Refuse other inputs, and answers that no queue gives."""
        match asked:
            case ("enqueue", str(), str() | int()):
                if answered is not UNKNOWN and answered is not None:
                    raise HistoryError(f"output {answered!r}: an enqueue is answered by null")
            case ("dequeue", str()):
                if answered is not UNKNOWN and answered is not None and type(answered) not in (str, int):
                    raise HistoryError(f"output {answered!r}: must be text, a whole number or null")
            case _:
                raise shape_error(asked, FORMS)

    def describe_key(self, key: Hashable) -> str:
        """Say its name."""
        return f"queue {key!r}"
