"""All named scenarios, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType

from sim.scenarios import (
    disks,
    normal_case,
    partitions,
    reads,
    repair,
    restarts,
    sessions,
    state_transfer,
    view_change,
)
from sim.scenarios.mistakes import SURVIVED
from sim.scenarios.scenario import Scenario

__all__ = ["SCENARIOS"]

ROOMS: tuple[ModuleType, ...] = (
    normal_case,
    view_change,
    partitions,
    restarts,
    repair,
    state_transfer,
    reads,
    sessions,
    disks,
)


def _found() -> Mapping[str, Scenario]:
    found = [it for room in ROOMS for it in vars(room).values() if isinstance(it, Scenario)]
    by_name = {it.name: it for it in (*SURVIVED, *found)}
    assert len(by_name) == len(SURVIVED) + len(found), "two scenarios have one name"
    return MappingProxyType(by_name)


SCENARIOS = _found()
