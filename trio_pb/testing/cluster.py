"""Run a machine that a test has at hand, and fail so that the failure can be seen again."""

from __future__ import annotations

import importlib.util
import inspect
import shlex
import sys
from collections.abc import Callable, Sequence

from sim.choices import Choices
from sim.determinism import REQUESTS, check_determinism
from sim.experiment import replay_command
from sim.machines import MachineRuns, MachineSubject, load_subject, run_machine, workload_of
from sim.profiles import DEFAULT_PROFILE, PROFILES
from sim.run import RunReport
from trio_pb.app.machine import StateMachine
from trio_pb.errors import ConfigError

__all__ = ["SimulatedCluster", "assert_deterministic", "name_of"]

Machine = Callable[[], StateMachine]


class SimulatedCluster:
    """One seed of a test: a cluster of any size, under whatever faults the seed draws."""

    def __init__(self, seed: int, profile: str = DEFAULT_PROFILE, test: str = "") -> None:
        if profile not in PROFILES:
            raise ConfigError(f"there is no profile {profile!r}; choose one of {', '.join(PROFILES)}")
        self.seed = seed
        self.profile = profile
        self._test = test  # Its node id: how pytest is told to run it again.

    def run(self, machine: Machine | str, workload: object = None) -> RunReport:
        """Replicate a machine and let clients ask what the workload says, under faults; check every invariant.

        `machine` is a StateMachine, or a function that makes one, or the name of such. `workload` is a function
        of a Turn, or a Hypothesis strategy, for Commands and Queries; without it, the one called `workload` in
        the machine's module.

        Raises:
            AssertionError: an invariant was broken, or the machine raised what it should not. The text says
                how to run this seed again.
        """
        name = name_of(machine)
        workload_name = "" if workload is None else name_of(workload)
        subject = _subject(machine, workload, name)
        report = run_machine(Choices(self.seed), subject, self.profile)
        if report.failure is None:
            return report
        replays: list[str] = []
        if name is not None and workload_name is not None:
            replays.append(replay_command(MachineRuns(name, workload_name, self.profile), self.seed))
        if self._test:
            # The options make the test of this seed, whatever its mark says of seeds.
            seed = ["--sim-first-seed", str(self.seed), "--sim-seeds", "1"]
            replays.append(shlex.join(["pytest", self._test, *seed]))
        raise AssertionError(
            f"seed {self.seed}: {report.failure.rule}: {report.failure.text}\n"
            f"at {report.failure.where}\n{report.failure.story}\n"
            + "\n".join(f"replay: {command}" for command in replays)
        )


def assert_deterministic(
    machine: Machine | str, workload: object = None, *, pythons: Sequence[str] = (), requests: int = REQUESTS
) -> None:
    """Run one log through a machine in several processes that differ in hash seed, clock and so on.

    Machine and workload as for `SimulatedCluster.run`; both must have names at the top of their modules, since
    the other processes import them. `pythons` are further interpreters to run the log in.

    Raises:
        AssertionError: two runs differ. The text names the command, and what differs.
        ConfigError: machine or workload cannot be imported by name.
    """
    name, workload_name = name_of(machine), "" if workload is None else name_of(workload)
    if name is None or workload_name is None:
        what = machine if name is None else workload
        raise ConfigError(f"{what!r}: other processes cannot import it; give it a name at the top of its module")
    divergence = check_determinism(MachineRuns(name, workload_name), pythons, requests)
    if divergence is not None:
        raise AssertionError(divergence.text)


def _subject(machine: Machine | str, workload: object, name: str | None) -> MachineSubject:
    if workload is None:
        if name is None:
            raise ConfigError(f"{machine!r}: a machine made within a function needs a workload beside it")
        return load_subject(name)
    if isinstance(machine, str) or isinstance(workload, str):
        machine_name, workload_name = name, workload if isinstance(workload, str) else name_of(workload)
        if machine_name is None or workload_name is None:
            raise ConfigError("a machine and a workload must both have names, or neither needs one")
        return load_subject(machine_name, workload_name)
    return MachineSubject(machine, workload_of(workload, repr(workload)))


def name_of(thing: object) -> str | None:
    """Return the name under which other processes find a machine or workload; None if they cannot."""
    if isinstance(thing, str):
        return thing
    module_name = getattr(thing, "__module__", None)
    qualified = getattr(thing, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(qualified, str):
        module_name, qualified = _variable(thing)
    if module_name is None or qualified is None or "<" in qualified:
        return None
    module = sys.modules.get(module_name)
    if module is None:
        return None
    try:
        is_importable = importlib.util.find_spec(module_name) is not None and module_name != "__main__"
    except (ImportError, ValueError):
        is_importable = False
    # Modules of tests are often known by their files only.
    path = inspect.getsourcefile(module)
    if not is_importable and path is None:
        return None
    return f"{module_name if is_importable else path}:{qualified}"


def _variable(thing: object) -> tuple[str | None, str | None]:
    """Return where a value without a name of its own, such as a strategy, is the value of a variable."""
    for module_name, module in sorted(sys.modules.items()):
        for variable, value in list(vars(module).items()) if hasattr(module, "__dict__") else ():
            if value is thing:
                return module_name, variable
    return None, None
