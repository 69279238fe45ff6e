"""All planted bugs that come with the simulator, those of a file of somebody's own, and what they cover."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType, ModuleType

from sim.mutants import (
    checkpoints,
    client,
    clocks,
    journal,
    normal_case,
    quorums,
    reads,
    repair,
    restart,
    sessions,
    transfer,
    upkeep,
    view_change,
)
from sim.mutants.mutant import Mutant
from trio_pb.errors import ConfigError

__all__ = [
    "CATALOGUE",
    "LOAD_BEARING",
    "NOT_YET_APPLICABLE",
    "TRAPS",
    "find",
    "from_file",
    "mutants_of",
    "trap_mutants",
]

ROOMS = (
    normal_case,
    quorums,
    view_change,
    restart,
    journal,
    repair,
    checkpoints,
    transfer,
    sessions,
    reads,
    client,
    upkeep,
    clocks,
)

# Rules without one of which a model of the protocol failed (PROTOCOL 6.6) -> the mutants that take them out.
LOAD_BEARING: Mapping[str, str] = MappingProxyType(
    {
        "view filter": "recover-any-view",
        "ex_primary": "restarted-primary-resumes",
        "R-NACK": "deny-what-was-acknowledged",
        "ack_floor carry-over": "forget-acknowledgements-at-install",
        "log_view first": "longest-log-wins",
        "monotone watermark": "lower-the-watermark",
        "proof numbers over restarts": "number-proofs-from-one",
    }
)

TRAPS = range(1, 41)  # PROTOCOL 13.
# Traps of what is not built, and of what lies outside the simulated code.
NOT_YET_APPLICABLE: Mapping[int, str] = MappingProxyType(
    {
        7: "voters do not change yet",
        11: "there are no leases",
    }
)


def mutants_of(module: ModuleType) -> tuple[Mutant, ...]:
    """The mutants of a room, in the order in which they stand there."""
    return tuple(value for value in vars(module).values() if isinstance(value, Mutant))


def _own(module: ModuleType) -> tuple[Mutant, ...]:
    area = module.__name__.rpartition(".")[2].replace("_", " ")
    return tuple(it for it in mutants_of(module) if it.area == area)


CATALOGUE: Mapping[str, Mutant] = MappingProxyType({it.name: it for room in ROOMS for it in _own(room)})


def find(name: str, source: Path | None = None) -> Mutant:
    """Return the mutant of that name, which may also be one of the file `source`.

    Raises:
        ConfigError: there is none; or as `from_file`.
    """
    known = {**CATALOGUE, **{it.name: it for it in (from_file(source) if source is not None else ())}}
    if name not in known:
        raise ConfigError(f"there is no mutant {name!r}; trio-pb sim mutants --list names them all")
    return known[name]


@cache
def from_file(path: Path) -> tuple[Mutant, ...]:
    """Read mutants from a Python file: all that are made there with `@mutant`, as in the rooms of this package.

    Raises:
        ConfigError: it is no file, does not run, holds no mutant, or one has the name of another.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    spec = importlib.util.spec_from_file_location(f"mutants_from_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    found = tuple(it for it in mutants_of(module) if CATALOGUE.get(it.name) is not it)
    if not found:
        raise ConfigError(f"{path}: no mutant in it; make one with @mutant from sim.mutants.mutant")
    for it in found:
        if it.name in CATALOGUE:
            raise ConfigError(f"{path}: {it.name}: a mutant of that name comes with the simulator; choose another")
        if it.pair and it.pair not in CATALOGUE and it.pair not in {other.name for other in found}:
            raise ConfigError(f"{path}: {it.name}: there is no mutant {it.pair!r} to be its pair")
    return found


def trap_mutants(mutants: Sequence[Mutant]) -> dict[int, tuple[str, ...]]:
    """Trap -> names of the mutants that walk into it; empty where there is none."""
    return {trap: tuple(it.name for it in mutants if trap in it.traps) for trap in TRAPS}
