"""Planted mistakes in state machines are found, and the command that shows them is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sim.determinism import Divergence, check_determinism
from sim.machines import MachineRuns
from trio_pb.app.machine import encode_value
from trio_pb.errors import ConfigError

PLANTED = Path(__file__).parents[1] / "machines" / "planted.py"
REQUESTS = 60


def _check(name: str, *pythons: str) -> Divergence | None:
    return check_determinism(MachineRuns(f"{PLANTED}:{name}"), pythons, REQUESTS)


def test_a_machine_without_a_mistake_passes() -> None:
    """In all variants, and in another interpreter as well."""
    assert _check("Tags", sys.executable) is None


@pytest.mark.parametrize(
    ("name", "variants"),
    [
        ("SetOfText", {"another hash seed (PYTHONHASHSEED)"}),
        ("Clock", {"a second run, with nothing changed", "a clock that shows another time"}),
        ("FloatSum", {"a machine restored from its state before each request"}),
        ("Identity", {"a second run, with nothing changed", "objects elsewhere in memory"}),
        ("OutsideParts", {"a machine restored from its state before each request"}),
    ],
)
def test_a_planted_mistake_is_found_and_named(name: str, variants: set[str]) -> None:
    """By the answer of the command that makes it, and what makes the difference."""
    found = _check(name)
    assert found is not None
    assert found.variant.name in variants
    assert (found.handler, found.what) == ("put", "answer")
    assert found.first != found.other
    assert "Not deterministic: command 2 (put), number " in found.text


def test_a_state_that_differs_is_shown_by_its_part() -> None:
    """Where the answers agree, the chunk that differs is named."""
    found = _check("SetInState")
    assert found is not None
    assert (found.handler, found.what) == ("put", "state (part 1 of parts())")
    assert sorted(found.first) == sorted(found.other)


def test_what_a_machine_raises_ends_the_log_for_all() -> None:
    """A mistake that is the same everywhere is no matter of determinism: the simulator finds it."""
    assert _check("Fragile") is None


def test_a_python_that_does_not_run_it() -> None:
    """The error names the interpreter."""
    with pytest.raises(ConfigError, match="nopython: No such file"):
        _check("Tags", "nopython")


def test_the_request_is_shown() -> None:
    """Whoever reads it can try the command."""
    found = _check("OutsideParts")
    assert found is not None
    assert encode_value(1) not in (found.request.body, b"")
    assert f"asked by client {found.client}: {found.request.body!r}" in found.text
