"""What a run is of, beside its choices: the one way to run a thing, whichever kind of thing it is.

The sweep, recordings, replay, the shrinker and the audit know experiments only. A kind of experiment is
a frozen class here or in a room of its own, and a line in `KINDS`, which brings it back from its name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol, TypeAlias

import attrs

from sim.choices import Choices
from sim.machines import MachineRuns
from sim.naive.experiment import NaiveScript
from sim.profiles import DEFAULT_PROFILE, PROFILES
from sim.run import RunReport, run_shape
from trio_pb.errors import ConfigError

__all__ = [
    "DEFAULT_EXPERIMENT",
    "KINDS",
    "Experiment",
    "Swarm",
    "experiment_named",
    "replay_command",
    "run_seed",
    "slug",
]


class Experiment(Protocol):
    """One thing to run. It is compared by value, and travels to other processes."""

    @property
    def name(self) -> str:
        """What recordings call it: its kind, a blank, and what that kind needs."""
        ...

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `trio-pb sim run` must be told to run it; empty for the default."""
        ...

    def run(self, choices: Choices) -> RunReport:
        """Run it to its end or to its first failure: equal choices, equal report."""
        ...


@attrs.frozen
class Swarm:
    """Clusters whose shape and faults a profile draws.

    Raises:
        ConfigError: there is no such profile.
    """

    profile: str = DEFAULT_PROFILE

    def __attrs_post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ConfigError(f"there is no profile {self.profile!r}; choose one of {', '.join(PROFILES)}")

    @property
    def name(self) -> str:
        """`swarm all`."""
        return f"swarm {self.profile}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """`--profile ambush`."""
        return () if self.profile == DEFAULT_PROFILE else ("--profile", self.profile)

    def run(self, choices: Choices) -> RunReport:
        """Draw a world and run it."""
        return run_shape(choices, PROFILES[self.profile](choices))


DEFAULT_EXPERIMENT: Experiment = Swarm()

Kind: TypeAlias = "Callable[[str], Experiment]"
# First word of a name -> what makes the experiment of the rest.
KINDS: Mapping[str, Kind] = MappingProxyType({"swarm": Swarm, "machine": MachineRuns.named, "naive": NaiveScript.named})


def experiment_named(name: str) -> Experiment:
    """Return the experiment that calls itself `name`.

    Raises:
        ConfigError: there is none.
    """
    kind, _, rest = name.partition(" ")
    if kind not in KINDS:
        raise ConfigError(f"there is no experiment {name!r}; it begins with one of {', '.join(KINDS)}")
    return KINDS[kind](rest)


def run_seed(seed: int, experiment: Experiment = DEFAULT_EXPERIMENT) -> RunReport:
    """Run one seed."""
    return experiment.run(Choices(seed))


def replay_command(experiment: Experiment, seed: int) -> str:
    """The command that runs one seed again."""
    return shlex.join(["trio-pb", "sim", "run", "--seeds", "1", "--first-seed", str(seed), *experiment.arguments])


def slug(experiment: Experiment) -> str:
    """Its name as a part of file names, whatever paths and colons it has: `machine-all-my-module-MyMachine`."""
    return re.sub(r"[^A-Za-z0-9]+", "-", experiment.name).strip("-")
