"""What a history is checked against: a sequential machine, described by what its answers may be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar, cast

from sim.linearizability.history import UNKNOWN, Call, HistoryError

__all__ = ["AnyModel", "Model", "Part", "plain", "shape_error", "split_by_name", "whole"]

S = TypeVar("S", bound=Hashable)


class Part(NamedTuple):
    """A call as one partition sees it: all of it, or what it says about that partition."""

    call: int  # Index of the call in the history.
    begin: int
    end: int | None
    input: Any
    output: Any
    hint: int | None = None

    def forgotten(self) -> Part:
        """The same call, had nobody seen it end."""
        return self._replace(end=None, output=UNKNOWN)


class Model(ABC, Generic[S]):
    """A sequential machine. States are immutable and hashable: equal states must compare equal.

    Inputs and answers are whatever a model takes them to be, as long as they are hashable: hence Any.
    A machine that may go several ways at one call has the set of its possible states as its state.
    """

    name: str

    @abstractmethod
    def initial(self) -> S:
        """Return the state before the first call."""

    @abstractmethod
    def step(self, state: S, asked: Any, answered: Any) -> S | None:
        """Return the state after a call, None when the machine in `state` would answer otherwise.

        `answered` is UNKNOWN for a call that took effect and whose answer nobody saw.
        """

    def is_read(self, asked: Any, answered: Any) -> bool:
        """Whether the call changes nothing in any state in which this answer is possible.

        Saying False is always right; saying True spares the search much work.
        """
        return False

    def split(self, calls: Sequence[Call]) -> Mapping[Hashable, Sequence[Part]]:
        """Divide a history into parts that can be checked one by one, by the key of each.

        A history is linearizable if and only if each object in it is (Herlihy and Wing 1990, 3.1), so a
        machine that consists of independent objects is checked object by object. A call that concerns
        several objects at once has a part in each of them, under the same index.
        """
        return {None: [whole(index, call) for index, call in enumerate(calls)]}

    def validate(self, asked: Any, answered: Any) -> None:
        """Refuse what is no call of this machine.

        Raises:
            HistoryError: `asked` or `answered` is something else; the text says what it should be.
        """

    def describe(self, asked: Any, answered: Any) -> str:
        """Say a call and its answer in a few words."""
        answer = "?" if answered is UNKNOWN else plain(answered)
        return f"{plain(asked)} -> {answer}"

    def describe_state(self, state: S) -> str:
        """Say a state in a few words."""
        return plain(state)

    def describe_key(self, key: Hashable) -> str:
        """Say which object a partition is about."""
        return "the object" if key is None else f"object {key!r}"


# A history is read and a report is made for some model; which states it has concerns the search alone.
AnyModel: TypeAlias = Model[Any]


def whole(index: int, call: Call) -> Part:
    """Return a call as the one partition that it belongs to sees it."""
    return Part(index, call.begin, call.end, call.input, call.output, call.hint)


def shape_error(asked: Any, forms: str) -> HistoryError:
    """Return the error for an input that has none of the forms of a model."""
    return HistoryError(f"input {plain(asked)}: must be one of {forms}")


def split_by_name(calls: Sequence[Call]) -> Mapping[Hashable, Sequence[Part]]:
    """Divide calls whose inputs are (kind, name of an object, ...) by that name."""
    partitions: dict[Hashable, list[Part]] = {}
    for index, call in enumerate(calls):
        partitions.setdefault(call.input[1], []).append(whole(index, call))
    return partitions


def plain(value: object) -> str:
    """Say a value of a history: the first word of a tuple as it is, all else as in Python."""
    words = _as_tuple(value)
    if not words:
        return repr(value)
    first, *rest = words
    return " ".join([first if isinstance(first, str) else repr(first), *map(repr, rest)])


def _as_tuple(value: object) -> tuple[object, ...]:
    return cast("tuple[object, ...]", value) if isinstance(value, tuple) else ()
