"""A replica's memory, taken and put back: one stage per replica, on which any of its states can be set.

The rooms of a replica refer to one another, so a copy of one replica is a copy of the whole house. Here the house
stays and its furniture is changed: what a step may change in place is copied, all else (messages, prepares, images)
is shared between as many states as hold it.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from enum import Enum
from types import FunctionType, MethodType
from typing import Any, TypeAlias, cast

import attrs

from trio_pb.core.config import Options
from trio_pb.core.log import Log
from trio_pb.core.replica import Replica
from trio_pb.core.timeout import Timeout

__all__ = ["Snapshot", "Stage"]

Snapshot: TypeAlias = "tuple[tuple[Any, ...], ...]"  # Per piece of furniture, the values of its attributes.
Memo: TypeAlias = "dict[int, Any]"
Copier: TypeAlias = "Callable[[Any, Memo], Any]"

_CORE = "trio_pb.core."


class Stage:
    """The one live replica with a number; it becomes whatever state is put on it."""

    def __init__(self, options: Options) -> None:
        self.replica = Replica(options)
        self._furniture = _furniture_of(self.replica)
        self._blank = self.take()
        self.clear()

    def clear(self) -> None:
        """A process that has not started yet."""
        self.put(self._blank)

    def take(self) -> Snapshot:
        """What the replica remembers; it must not take another step before something is put."""
        return tuple(tuple([getattr(it, name) for name in names]) for it, names in self._furniture)

    def put(self, snapshot: Snapshot) -> None:
        """Let the replica remember this, and nothing else."""
        memo: Memo = {}
        for (it, names), values in zip(self._furniture, snapshot, strict=True):
            for name, value in zip(names, values, strict=True):
                plain: object = value
                kind = type(plain)
                copier = _COPIERS.get(kind) or _copier_of(kind)
                object.__setattr__(it, name, value if copier is _share else copier(value, memo))


def _furniture_of(replica: Replica) -> list[tuple[object, tuple[str, ...]]]:
    """Rooms, their timers and the shared state, each with the attributes that a step may change."""
    rooms = [it for it in vars(replica).values() if type(it).__module__.startswith(_CORE)]
    timers = [it for room in rooms if hasattr(room, "__dict__") for it in _insides(room) if isinstance(it, Timeout)]
    pieces: list[object] = [*rooms, *timers]
    fixed = set(map(id, pieces))
    furniture: list[tuple[object, tuple[str, ...]]] = [(replica, ("_is_started",))]
    for piece in pieces:
        names = _names_of(piece)
        kept = [name for name in names if not _stays(getattr(piece, name), fixed)]
        furniture.append((piece, tuple(kept)))
    return furniture


def _insides(room: object) -> list[object]:
    return list(vars(room).values())


def _names_of(piece: object) -> list[str]:
    if attrs.has(cast("type[attrs.AttrsInstance]", type(piece))):
        return [field.name for field in attrs.fields(cast("type[attrs.AttrsInstance]", type(piece)))]
    return list(vars(piece))


def _stays(value: object, fixed: set[int]) -> bool:
    return id(value) in fixed or isinstance(value, FunctionType | MethodType)


# --- Copies -------------------------------------------------------------------------------------


def _share(value: Any, _: Memo) -> Any:
    return value


def _copy_dict(value: dict[Any, Any], memo: Memo) -> dict[Any, Any]:
    if id(value) not in memo:
        memo[id(value)] = type(value)([(key, _copy(item, memo)) for key, item in value.items()])
    return memo[id(value)]  # type: ignore[no-any-return]


def _copy_list(value: list[Any], memo: Memo) -> list[Any]:
    return [_copy(item, memo) for item in value]


def _copy_deque(value: deque[Any], memo: Memo) -> deque[Any]:
    return deque([_copy(item, memo) for item in value], value.maxlen)


def _copy_flat(value: Any, _: Memo) -> Any:
    return value.copy()


def _copy_object(value: Any, memo: Memo) -> Any:
    if id(value) not in memo:
        plain: object = value
        copied: object = object.__new__(type(plain))
        memo[id(value)] = copied
        for name in _names_of(value):
            object.__setattr__(copied, name, _copy(getattr(value, name), memo))
    return memo[id(value)]


def _copy(value: Any, memo: Memo) -> Any:
    plain: object = value
    kind = type(plain)
    copier = _COPIERS.get(kind) or _copier_of(kind)
    return value if copier is _share else copier(value, memo)


_COPIERS: dict[type, Copier] = {
    **dict.fromkeys((int, bool, str, bytes, float, type(None), tuple, frozenset), _share),
    # What is counted and drawn is no part of a state (`canonical` says why).
    **dict.fromkeys((Counter, random.Random), _share),
    **dict.fromkeys((dict, OrderedDict), _copy_dict),
    list: _copy_list,
    deque: _copy_deque,
    **dict.fromkeys((set, bytearray), _copy_flat),
    Log: _copy_object,
}


def _copier_of(kind: type[Any]) -> Copier:
    """Whether a value of this class may be shared: found out once per class."""
    copier: Copier = _copy_object
    if issubclass(kind, tuple | Enum | FunctionType | MethodType):
        copier = _share
    elif attrs.has(kind) and _is_frozen(kind):
        fields = attrs.fields(kind)
        has_log = any("Log" in str(field.type).split() for field in fields)
        copier = _copy_object if has_log else _share
    _COPIERS[kind] = copier
    return copier


def _is_frozen(kind: type[Any]) -> bool:
    how: object = kind.__setattr__
    return how is not object.__setattr__
