"""What a workload says: commands and queries for somebody's state machine."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple, TypeAlias

__all__ = ["Command", "Query", "Request", "Turn", "Workload"]


class Command(NamedTuple):
    """A request that is ordered, and may change the state."""

    code: int
    body: bytes


class Query(NamedTuple):
    """A read of applied state; only its first page is asked for."""

    code: int
    body: bytes
    here: bool = False  # Any replica may answer.


Request: TypeAlias = Command | Query


class Turn(NamedTuple):
    """Who asks now."""

    random: Random  # All that may be left to chance.
    client: int  # From 0 on.
    number: int  # How many this client has asked before.


Workload: TypeAlias = "Callable[[Turn], Request]"
