"""Anybody's state machine as the subject of a run.

    trio-pb sim run my.module:MyMachine --workload my.tests:workload

A machine is a subclass of `StateMachine`, or a function that returns one. A workload says what clients ask: a
function that is told whose turn it is and returns a Command or a Query, or a Hypothesis strategy for such.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any, cast

import attrs

from sim.choices import Choices
from sim.named import load, load_machine
from sim.profiles import DEFAULT_PROFILE, PROFILES
from sim.requests import Command, Query, Request, Turn, Workload
from sim.run import RunReport, run_shape
from sim.subject import Asked
from trio_pb.app.machine import COMMAND_CODE_MIN, StateMachine
from trio_pb.errors import ConfigError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from sim.shape import WorkloadPlan

__all__ = ["Caller", "MachineRuns", "MachineSubject", "load_subject", "run_machine", "workload_of"]

CODE_MAX = (1 << 16) - 1
EXAMPLES = 300  # Requests drawn from a strategy, once for each process; runs choose among them.
WORKLOAD = "workload"  # Its name in the module of the machine, unless another one is told.


class Caller:
    """One client of a workload (`Asker`)."""

    def __init__(self, workload: Workload, client: int) -> None:
        self._workload = workload
        self._client = client
        self._number = 0

    def ask(self, token: int, bits: int) -> Asked:
        """Ask the workload."""
        return _asked(self.request(bits))

    def request(self, bits: int) -> Request:
        """Return what the workload says for the next turn, whatever it is."""
        request = self._workload(Turn(Random(bits), self._client, self._number))
        self._number += 1
        return request


def _asked(request: object) -> Asked:
    match request:
        case Command(int(code), bytes(body)) if COMMAND_CODE_MIN <= code <= CODE_MAX:
            return Asked(code, body, is_read=False)
        case Query(int(code), bytes(body), bool(here)) if 0 <= code <= CODE_MAX:
            return Asked(code, body, is_read=True, here=here)
        case _:
            raise ConfigError(
                f"the workload returned {request!r}; it must return Command(code, body) with a code from"
                f" {COMMAND_CODE_MIN} on, or Query(code, body)"
            )


@attrs.frozen
class MachineSubject:
    """A machine with its workload (`Subject`)."""

    make: Callable[[], StateMachine]
    workload: Workload
    scan_code: int | None = None

    def new_machine(self) -> StateMachine:
        """Return a machine in its first state."""
        return self.make()

    def asker(self, client: int, plan: WorkloadPlan) -> Caller:
        """Return what the workload decides for a client; only the pace is the plan's."""
        return Caller(self.workload, client)

    def probe(self) -> None:
        """What a machine may be asked, only its workload knows."""

    def corrupt(self, machine: StateMachine) -> None:
        """Never called: `MachineRuns` draws no flips."""
        raise NotImplementedError


@attrs.frozen
class MachineRuns:
    """Clusters of somebody's machine, of shapes and with faults that a profile draws (`Experiment`).

    `machine` and `workload` are names: `package.module:Name` or `path/of/file.py:Name`. An empty `workload` is
    the one called `workload` beside the machine.

    Raises:
        ConfigError: there is no such machine, workload or profile.
    """

    machine: str
    workload: str = ""
    profile: str = DEFAULT_PROFILE

    def __attrs_post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ConfigError(f"there is no profile {self.profile!r}; choose one of {', '.join(PROFILES)}")
        load_subject(self.machine, self.workload)

    @classmethod
    def named(cls, rest: str) -> MachineRuns:
        """Return the experiment of a name without its first word."""
        try:
            words = shlex.split(rest)
        except ValueError:  # A quotation without an end.
            words = []
        if len(words) != 3:
            raise ConfigError(f"{rest!r}: not a profile, a machine and a workload")
        profile, machine, workload = words
        return cls(machine, "" if workload == "-" else workload, profile)

    @property
    def name(self) -> str:
        """`machine all my.module:MyMachine -`; a path with blanks is quoted as for a shell."""
        return shlex.join(["machine", self.profile, self.machine, self.workload or "-"])

    @property
    def arguments(self) -> tuple[str, ...]:
        """`my.module:MyMachine --workload my.tests:workload --profile ambush`."""
        workload = ("--workload", self.workload) if self.workload else ()
        profile = () if self.profile == DEFAULT_PROFILE else ("--profile", self.profile)
        return (self.machine, *workload, *profile)

    def run(self, choices: Choices) -> RunReport:
        """Draw a world and run the machine in it."""
        return run_machine(choices, load_subject(self.machine, self.workload), self.profile)


def run_machine(choices: Choices, subject: MachineSubject, profile: str = DEFAULT_PROFILE) -> RunReport:
    """Run a machine in a world that a profile draws."""
    shape = PROFILES[profile](choices)
    # A state that went wrong shows in what users ask, which a run takes for a mistake of the machine; and
    # the client that comes back, and the one that talks nonsense, order laptops.
    faults = attrs.evolve(shape.faults, flips=0, client_returns=0, odd_requests=0)
    return run_shape(choices, attrs.evolve(shape, faults=faults, subject=subject))


@cache
def load_subject(machine: str, workload: str = "") -> MachineSubject:
    """Import a machine and its workload by their names.

    Raises:
        ConfigError: one of them is not there, or is something else.
    """
    make = load_machine(machine)
    name = workload or f"{machine.rpartition(':')[0]}:{WORKLOAD}"
    try:
        found = load(name, "workload")
    except ConfigError as error:
        if workload:
            raise
        raise ConfigError(f"{error}; name one with --workload") from error
    return MachineSubject(make, workload_of(found, name))


def workload_of(found: object, name: str) -> Workload:
    """Return a function or a Hypothesis strategy as a workload; errors call it `name`.

    Raises:
        ConfigError: it is neither.
    """
    strategies: Any = sys.modules.get("hypothesis.strategies")  # Whoever has a strategy has imported this.
    if strategies is not None and isinstance(found, strategies.SearchStrategy):
        pool = _examples(cast("SearchStrategy[object]", found))
        if not pool:
            raise ConfigError(f"workload {name!r}: the strategy has no examples")
        return _choice_of([_request(example) for example in pool])
    if not callable(found):
        raise ConfigError(f"workload {name!r}: neither a function nor a Hypothesis strategy")
    return cast("Workload", found)


def _request(example: object) -> Request:
    _asked(example)
    return cast("Request", example)


def _choice_of(pool: list[Request]) -> Workload:
    return lambda turn: turn.random.choice(pool)


def _examples(strategy: SearchStrategy[object]) -> list[object]:
    """Draw examples, the same ones in every process that has the same version of Hypothesis."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    found: list[object] = []

    @seed(0)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(strategy)
    def collect(example: object) -> None:
        found.append(example)

    collect()
    return found
