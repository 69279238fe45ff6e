"""Planted mistakes in state machines are found, and the command that shows them is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sim import determinism
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


def test_what_a_machine_raises_in_every_run_is_told() -> None:
    """The log ends there for all of them, so nothing is known of what comes after."""
    found = _check("Fragile")
    assert found is not None
    assert (found.handler, found.what, found.request.body) == ("put", "exception", b"eel")
    assert "  raises ZeroDivisionError: " in found.text


def test_what_a_machine_prints_is_no_answer() -> None:
    """It may say what it likes, by any way to stdout."""
    assert _check("Chatty") is None


def test_a_machine_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says so."""
    monkeypatch.setattr(determinism, "TIMEOUT_S", 0.001)
    with pytest.raises(ConfigError, match=r"Tags does not get through one log in 0\.001 s"):
        _check("Tags")


def test_a_workload_that_differs_is_named() -> None:
    """Two processes make the log, and its first request that is not the same is shown."""
    runs = MachineRuns(f"{PLANTED}:Tags", f"{PLANTED}:workload_of_a_set")
    found = check_determinism(runs, requests=REQUESTS)
    assert found is not None
    assert (found.what, found.variant.name) == ("request", "another hash seed (PYTHONHASHSEED)")
    assert found.text.startswith("The workload is not deterministic: number ")
    assert found.first.startswith("command 2 b'")


@pytest.mark.parametrize(
    "asked",
    [
        "time.time()",
        "time.clock_gettime(time.CLOCK_REALTIME)",
        "time.mktime(time.localtime())",
        "calendar.timegm(time.gmtime(None))",
        "time.mktime(time.strptime(time.ctime()))",
        "time.mktime(time.strptime(time.asctime()))",
        "float(time.strftime('%s'))",
        "datetime.datetime.now().timestamp()",
        "time.mktime(datetime.date.today().timetuple())",
    ],
)
def test_every_way_to_ask_for_the_time_is_shifted(asked: str) -> None:
    """By ten days; what is told a time says that one."""
    code = (
        "import calendar, datetime, time; from sim.determinism_worker import _shift_clock; before = time.time();"
        f"_shift_clock(864_000); print({asked} - before, time.gmtime(0).tm_year, time.strftime('%Y', time.gmtime(0)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shift, *years = done.stdout.split()
    assert 9 * 86_400 < float(shift) < 11 * 86_400
    assert years == ["1970", "1970"]


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
