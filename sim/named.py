"""Machines and workloads by their names: `package.module:Name` or `path/of/file.py:Name`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import cast

from trio_pb.app.machine import StateMachine
from trio_pb.errors import ConfigError

__all__ = ["load", "load_machine"]


@cache
def load_machine(name: str) -> Callable[[], StateMachine]:
    """Import a machine by its name; return what makes one.

    Raises:
        ConfigError: it is not there, or makes something else.
    """
    found = load(name, "machine")
    if not callable(found):
        raise ConfigError(f"machine {name!r}: neither a StateMachine nor a function that makes one")
    made = found()
    if not isinstance(made, StateMachine):
        raise ConfigError(f"machine {name!r} made {made!r}, which is no StateMachine")
    return cast("Callable[[], StateMachine]", found)


def load(name: str, what: str) -> object:
    """Import whatever has this name; `what` says what it should be.

    Raises:
        ConfigError: it is not there.
    """
    module_name, colon, attribute = name.rpartition(":")
    is_file = module_name.endswith(".py")
    if not colon or not module_name or not attribute or (module_name.startswith(".") and not is_file):
        raise ConfigError(f"{what} {name!r}: must be package.module:Name or path/of/file.py:Name")
    module = _import_file(Path(module_name)) if is_file else _import(module_name)
    value: object = module
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError as error:
            raise ConfigError(f"{what} {name!r}: there is no {part} in {module_name}") from error
    return value


def _import(name: str) -> object:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # As `python -m` has it; the command `trio-pb` has not.
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(f"there is no module {name}, in {here} or where Python has modules") from error
        raise


@cache
def _import_file(path: Path) -> object:
    name = f"trio_pb_subject_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Where dataclasses and pickle look for it.
    spec.loader.exec_module(module)
    return module
