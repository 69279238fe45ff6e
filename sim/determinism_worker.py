"""One run of a log through a machine, in a process of its own; `sim.determinism` compares such runs.

A task comes as one JSON object on stdin. For each request one line goes to stdout: what was answered, or
raised, and the state after it. Nothing of the machine is imported before the clock is set. A task can also be
to make such a log: one line for each request. What the machine prints goes to stderr.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from trio_pb.app.machine import StateMachine

__all__ = ["BEGAN_NS", "NS_PER_OP"]

BEGAN_NS = 1_700_000_000_000_000_000  # Timestamp of the log's beginning; the same in every run.
NS_PER_OP = 1_000_000
NOISE_SIZES = (16, 48, 64, 96, 160, 320, 512)  # Bytes: small objects of several size classes.
NOISE_KEPT = 1000
CHUNKS_BYTES_MAX = 16 * 1024  # A larger state is told by its digest only.


def _shift_clock(seconds: int) -> None:
    """Let what code asks for the time by name show another one: the clocks of `time`, and of `datetime`."""
    for name in ("time", "monotonic", "perf_counter", "clock_gettime"):
        _shift(name, seconds)
        _shift(f"{name}_ns", seconds * 1_000_000_000)
    for name in ("localtime", "gmtime", "ctime"):
        _let_default_to(name, 0, lambda: time.time())  # The shifted one.
    _let_default_to("asctime", 0, lambda: time.localtime())
    _let_default_to("strftime", 1, lambda: time.localtime())
    delta = datetime.timedelta(seconds=seconds)
    true = datetime.datetime

    class Shifted(datetime.datetime):
        """The true class, but for what it takes to be now."""

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return true.now(tz) + delta

        @classmethod
        def utcnow(cls) -> Any:
            return true.now(datetime.UTC).replace(tzinfo=None) + delta

        @classmethod
        def today(cls) -> Any:
            return true.today() + delta

    setattr(datetime, "datetime", Shifted)  # noqa: B010 -- a type cannot be assigned to


def _shift(name: str, by: int) -> None:
    shown: Callable[..., Any] = getattr(time, name)

    def shifted(*which: int) -> Any:
        return shown(*which) + by

    setattr(time, name, shifted)


def _let_default_to(name: str, given: int, now: Callable[[], object]) -> None:
    """Let a function whose argument number `given` is by default the present time ask `now` for it."""
    shown: Callable[..., Any] = getattr(time, name)

    def shifted(*arguments: object) -> object:
        rest = arguments[given:]
        return shown(*arguments[:given], now() if rest in ((), (None,)) else rest[0])

    setattr(time, name, shifted)


def _take_stdout() -> TextIO:
    """Return what stdout was; whatever else is written there goes to stderr from now on."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return lines


class _Noise:
    """Allocations in between, so that objects lie elsewhere and in another order."""

    def __init__(self) -> None:
        self._kept: list[object] = []

    def make(self, number: int) -> None:
        """Take and free memory as no other request does."""
        for i in range(number % 7 + 3):
            self._kept.append(bytearray(NOISE_SIZES[(number + i) % len(NOISE_SIZES)]))
            self._kept.append(object())
        if len(self._kept) > NOISE_KEPT:
            del self._kept[number % 5 :: 3]


def _main() -> None:
    task: dict[str, Any] = json.load(sys.stdin)
    if task["clock_shift_s"]:
        _shift_clock(task["clock_shift_s"])
    with _take_stdout() as lines:
        if "make_log" in task:
            _make_log(lines, *task["make_log"])
        else:
            _run_log(task, lines)


def _make_log(lines: TextIO, machine: str, workload: str, profile: str, requests: int, seed: int) -> None:
    from sim.determinism import make_log
    from sim.machines import MachineRuns
    from sim.requests import Command

    for client, request in make_log(MachineRuns(machine, workload, profile), requests, seed):
        kind = "command" if isinstance(request, Command) else "query"
        print(json.dumps([client, kind, request.code, request.body.hex()]), file=lines)


def _run_log(task: dict[str, Any], lines: TextIO) -> None:
    from sim.named import load_machine

    make = load_machine(task["machine"])
    machine = make()
    noise = _Noise() if task["noise"] else None
    op = 0
    for number, (kind, code, body, client) in enumerate(task["log"]):
        if noise is not None:
            noise.make(number)
        if task["restore_every"] and number % task["restore_every"] == 0:
            machine = _restored(machine, make(), op)
        line: dict[str, Any] = {}
        try:
            if kind == "command":
                op += 1
                (result,) = machine.apply(
                    op, BEGAN_NS + NS_PER_OP * op, [(0, bytes.fromhex(client), code, bytes.fromhex(body))]
                )
            else:
                ((_, result, _, _),) = machine.query(op, 0, [(0, 0, code, bytes.fromhex(body), b"")])
            line["result"] = result.hex()
        except Exception as error:
            # Any mistake of a machine is to be told with the request that met it, whatever its class.
            line["raised"] = f"{type(error).__name__}: {error}"
        line["digest"] = machine.digest().hex()
        chunks = _chunks(machine)
        if sum(len(data) for _, data in chunks) <= CHUNKS_BYTES_MAX:
            line["chunks"] = [[place, data.hex()] for place, data in chunks]
        print(json.dumps(line), file=lines)
        if "raised" in line:
            return  # The replica would stop here.


def _chunks(machine: StateMachine) -> list[tuple[int, bytes]]:
    frozen = machine.freeze()
    chunks = [(place, frozen.encode(place)) for place in frozen.places]
    frozen.release()
    return chunks


def _restored(machine: StateMachine, fresh: StateMachine, op: int) -> StateMachine:
    """Return a machine that knows only what a checkpoint of the first one says."""
    restoring = fresh.restoring()
    for place, data in _chunks(machine):
        restoring.put(place, data)
    restoring.finish()
    fresh.adopt(restoring, op)
    return fresh


if __name__ == "__main__":
    _main()
