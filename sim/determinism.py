"""Does a machine give the same answers and the same state wherever the same log is run through it?

Replicas agree only if it does, and a simulated cluster cannot tell all: its replicas live in one process, with
one hash seed and one clock. Here the same log is run through the machine in several processes that differ
in one thing each. The first request after which a run differs from the first run is named; so is a request that
the workload itself does not make alike in two processes, and one that ends every run with an exception.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from sim.choices import Choices
from sim.machines import MachineRuns, load_subject
from sim.named import load_machine
from sim.requests import Command, Query, Request
from sim.shape import WorkloadPlan
from trio_pb import canonical
from trio_pb.app.parts import PART_PLACES
from trio_pb.errors import ConfigError

__all__ = ["Divergence", "Variant", "check_determinism", "make_log", "variants"]

REQUESTS = 400  # Of a log; each run takes well under a second for most machines.
CLIENTS = 3
TIMEOUT_S = 120
SHOWN_MAX = 300  # Characters of a value.
DAY_S = 86_400


@attrs.frozen(kw_only=True)
class Variant:
    """One way to run the log that must make no difference."""

    name: str
    hint: str  # What it usually is, when it does make one.
    hash_seed: int = 0
    clock_shift_s: int = 0
    noise: bool = False
    restore_every: int = 0  # The machine is replaced by one that was restored from its chunks; 0: never.
    python: str | None = None  # Another interpreter.


_Line: TypeAlias = dict[str, Any]  # One line of a worker, as JSON.
_Log: TypeAlias = list[tuple[int, Request]]  # Who asks, and what.

BASE = Variant(name="first run", hint="a replica would stop here; a command is refused with RejectedError")
OTHER_LOG = Variant(
    name="another hash seed (PYTHONHASHSEED)",
    hint="the workload may use turn.random only; sorted() makes an order of a set",
    hash_seed=1,
)


def variants(pythons: Sequence[str] = ()) -> list[Variant]:
    """Return all ways to run a log, those first whose difference says most."""
    return [
        Variant(
            name="a second run, with nothing changed",
            hint="does it use a clock, random numbers, id() or the hash of objects?",
        ),
        Variant(
            name="a clock that shows another time",
            hint="does it ask a clock? The time to use is the timestamp that a command is given",
            clock_shift_s=45 * DAY_S + 4_321,
        ),
        Variant(
            name="another hash seed (PYTHONHASHSEED)",
            hint="does it iterate over a set of text or bytes, or use hash()? sorted() makes an order of a set",
            hash_seed=1,
        ),
        Variant(
            name="objects elsewhere in memory",
            hint="does it use id(), or iterate over a set of objects without __hash__?",
            noise=True,
        ),
        Variant(
            name="a machine restored from its state before each request",
            hint="does parts() leave something out, or does an answer depend on the order in which a dict, a set"
            " or a sum of floats came about?",
            restore_every=1,
        ),
        Variant(
            name="a machine restored now and then, with another hash seed",
            hint="does parts() leave something out, or does an answer depend on the order in which a dict, a set"
            " or a sum of floats came about?",
            restore_every=7,
            hash_seed=2,
        ),
        *(
            Variant(name=f"another Python ({python})", hint="what changed between these versions?", python=python)
            for python in pythons
        ),
    ]


@attrs.frozen(kw_only=True)
class Divergence:
    """The first request after which two runs of one log differ, or that raises alike in all of them."""

    variant: Variant
    number: int  # Of the request in the log, from 1 on.
    request: Request
    handler: str  # Name of the machine's method.
    client: int
    what: str  # "answer", "state" or "exception"; "request" where two runs of the workload differ.
    first: str  # What the first run had,
    other: str  # and what the other.

    @property
    def text(self) -> str:
        """All of it, in words."""
        kind = "command" if isinstance(self.request, Command) else "query"
        handler = f" ({self.handler})" if self.handler else ""
        if self.what == "request":
            return "\n".join(
                [
                    f"The workload is not deterministic: number {self.number} of what it asks differs"
                    f" with {self.variant.name}:",
                    f"    first run: {self.first}",
                    f"    then:      {self.other}",
                    f"  {self.variant.hint}",
                ]
            )
        if self.first == self.other:
            return "\n".join(
                [
                    f"Every run ends early: {kind} {self.request.code}{handler}, number {self.number} of the log.",
                    f"  asked by client {self.client}: {show(self.request.body)}",
                    f"  raises {self.first}",
                    f"  {self.variant.hint}",
                ]
            )
        return "\n".join(
            [
                f"Not deterministic: {kind} {self.request.code}{handler}, number {self.number} of the log.",
                f"  asked by client {self.client}: {show(self.request.body)}",
                f"  the {self.what} differs with {self.variant.name}:",
                f"    first run: {self.first}",
                f"    then:      {self.other}",
                f"  {self.variant.hint}",
            ]
        )


def show(data: bytes) -> str:
    """Show bytes as the value that they encode, else as they are."""
    try:
        return _short(repr(canonical.decode(data)))
    except canonical.CanonicalError:
        return _short(repr(data))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}... ({len(text)} characters)"


def make_log(runs: MachineRuns, requests: int = REQUESTS, seed: int = 1) -> _Log:
    """Return what the clients of a workload ask one after the other, with the number of who asks."""
    subject = load_subject(runs.machine, runs.workload)
    askers = [subject.asker(client, WorkloadPlan()) for client in range(CLIENTS)]
    choices = Choices(seed)
    log: _Log = []
    for number in range(requests):
        client = choices.bits(("log client", number)) % CLIENTS
        log.append((client, askers[client].request(choices.bits(("log request", number)))))
    return log


def check_determinism(
    runs: MachineRuns, pythons: Sequence[str] = (), requests: int = REQUESTS, seed: int = 1
) -> Divergence | None:
    """Run one log in all variants; return the first difference, else the request that raises in every run.

    Raises:
        ConfigError: another Python does not run it, or it takes too long.
    """
    log, other_log = (_make_log_in_child(runs, requests, seed, variant) for variant in (BASE, OTHER_LOG))
    for number, (asked, other_asked) in enumerate(zip(log, other_log, strict=True)):
        if asked != other_asked:
            shown, other_shown = (show_request(request) for _, request in (asked, other_asked))
            return _divergence(runs.machine, asked, OTHER_LOG, number, ("request", shown, other_shown))
    first = list(_lines(_run(runs.machine, log, BASE)))
    for variant in variants(pythons):
        other = list(_lines(_run(runs.machine, log, variant)))
        for number, (line, other_line) in enumerate(zip(first, other, strict=False)):
            if line != other_line:
                return _divergence(runs.machine, log[number], variant, number, _difference(line, other_line))
    if first and "raised" in first[-1]:
        raised = _short(first[-1]["raised"])
        return _divergence(runs.machine, log[len(first) - 1], BASE, len(first) - 1, ("exception", raised, raised))
    return None


def show_request(request: Request) -> str:
    """Show a request as who reads about it would write it."""
    kind = "command" if isinstance(request, Command) else "query"
    return f"{kind} {request.code} {show(request.body)}"


def _make_log_in_child(runs: MachineRuns, requests: int, seed: int, variant: Variant) -> _Log:
    task = {"clock_shift_s": 0, "make_log": [runs.machine, runs.workload, runs.profile, requests, seed]}
    return [
        (client, (Command if kind == "command" else Query)(code, bytes.fromhex(body)))
        for client, kind, code, body in map(json.loads, _child(runs.machine, task, variant).splitlines())
    ]


def _run(machine: str, log: _Log, variant: Variant) -> str:
    task = {
        "machine": machine,
        "clock_shift_s": variant.clock_shift_s,
        "noise": variant.noise,
        "restore_every": variant.restore_every,
        "log": [
            [
                "command" if isinstance(request, Command) else "query",
                request.code,
                request.body.hex(),
                client.to_bytes(16, "big").hex(),
            ]
            for client, request in log
        ],
    }
    return _child(machine, task, variant)


def _child(machine: str, task: dict[str, Any], variant: Variant) -> str:
    """Let a worker do a task; return its lines."""
    python = variant.python or sys.executable
    try:
        done = subprocess.run(
            [python, "-m", "sim.determinism_worker"],
            input=json.dumps(task),
            env={**os.environ, "PYTHONHASHSEED": str(variant.hash_seed), "PYTHONPATH": _path(variant.python)},
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except OSError as error:
        raise ConfigError(f"--python {python}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"{machine} does not get through one log in {TIMEOUT_S} s ({variant.name}); does it wait, or never end?"
        ) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise ConfigError(f"{python} does not run {machine}: {lines[-1] if lines else done.returncode}")
    return done.stdout


def _path(python: str | None) -> str:
    """What a worker may import: all that we may; of another Python only our sources, since it has its own packages."""
    if python is None:
        return os.pathsep.join(sys.path)
    root = Path(__file__).resolve().parent.parent
    return os.pathsep.join([os.getcwd(), *([] if root.name == "site-packages" else [str(root)])])


def _lines(output: str) -> Iterator[_Line]:
    return map(json.loads, output.splitlines())


def _divergence(
    machine: str, asked: tuple[int, Request], variant: Variant, number: int, difference: tuple[str, str, str]
) -> Divergence:
    client, request = asked
    what, first, other = difference
    return Divergence(
        variant=variant,
        number=number + 1,
        request=request,
        handler=load_machine(machine)().handler_name(request.code, is_query=not isinstance(request, Command)),
        client=client,
        what=what,
        first=first,
        other=other,
    )


def _difference(first: _Line, other: _Line) -> tuple[str, str, str]:
    """Return what differs, and how it is in each."""
    if first.get("raised") != other.get("raised"):
        return "exception", _short(first.get("raised", "none")), _short(other.get("raised", "none"))
    if first.get("result") != other.get("result"):
        return "answer", show(bytes.fromhex(first["result"])), show(bytes.fromhex(other["result"]))
    chunks, other_chunks = (dict(line.get("chunks", ())) for line in (first, other))
    for place in sorted(chunks.keys() | other_chunks.keys()):
        one, two = chunks.get(place), other_chunks.get(place)
        if one != two:
            part = place // PART_PLACES  # Number 0 is the machine's own header.
            shown, other_shown = ("nothing" if data is None else show(bytes.fromhex(data)) for data in (one, two))
            return f"state (part {part} of parts())", shown, other_shown
    return "digest of the state", first["digest"], other["digest"]
