"""Where a run failed is told alike wherever the code lies, with the user's own function."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import CodeType
from typing import Any

import pytest

import sim
import trio_pb
from sim.experiment import run_seed
from sim.frames import telling_frames
from sim.machines import MachineRuns
from tests.docs.pages import ROOT


def _call(code: str, path: str, **names: object) -> Callable[[], object]:
    """Make a function `f` whose code claims to be in a file."""
    compiled: CodeType = compile(code, path, "exec")
    space: dict[str, Any] = dict(names)
    exec(compiled, space)
    made: Callable[[], object] = space["f"]
    return made


def test_ours_and_the_innermost_of_theirs() -> None:
    """A clone in a folder called trio_pb makes nothing ours; libraries are left out."""
    inner = _call("def f(): g('{')", f"{trio_pb.__file__.removesuffix('__init__.py')}canonical.py", g=json.loads)
    theirs = _call("def f(): g()", "/home/me/trio_pb/sim/machine.py", g=inner)
    package = _call("def f(): g()", "/venv/lib/python3/site-packages/other/run.py", g=theirs)
    outer = _call("def f(): g()", "/home/me/trio_pb/sim/outer.py", g=package)
    ours = _call("def f(): g()", f"{sim.__file__.removesuffix('__init__.py')}replica.py", g=outer)
    with pytest.raises(ValueError, match="Expecting") as caught:
        ours()
    frames = telling_frames(caught.value)
    assert frames == [("canonical.py", "f"), ("machine.py", "f"), ("replica.py", "f")]


def test_a_handler_that_raises_is_named() -> None:
    """It is the first thing that its author wants to know."""
    runs = MachineRuns(f"{ROOT / 'tests' / 'machines' / 'planted.py'}:Fragile")
    failure = next(report.failure for seed in range(1, 5) if (report := run_seed(seed, runs)).failure)
    assert failure is not None
    assert failure.where.startswith("planted.py:answer < machine.py:")
