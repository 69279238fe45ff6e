"""Scripts as experiments: their runs are recorded, replayed, shrunk and explained like those of the swarm."""

from __future__ import annotations

import attrs

from sim.choices import Choices
from sim.naive.run import play, report_of
from sim.naive.scripts import SCRIPTS, Script
from sim.run import RunReport
from trio_pb.errors import ConfigError

__all__ = ["NaiveScript"]

NOISE = " in noise"


@attrs.frozen
class NaiveScript:
    """A mistake and the script that shows it; `noisy`: amid losses, delays and orders of others.

    Raises:
        ConfigError: there is no such script.
    """

    scenario: str
    noisy: bool = False

    def __attrs_post_init__(self) -> None:
        if self.scenario not in SCRIPTS:
            raise ConfigError(
                f"there is no scenario {self.scenario!r} of the naive protocol; choose one of {', '.join(SCRIPTS)}"
            )

    @classmethod
    def named(cls, rest: str) -> NaiveScript:
        """Return the experiment whose name is `naive` and then `rest`."""
        return cls(rest.removesuffix(NOISE), noisy=rest.endswith(NOISE))

    @property
    def script(self) -> Script:
        """What is played."""
        return SCRIPTS[self.scenario]

    @property
    def name(self) -> str:
        """`naive one-behind`, `naive one-behind in noise`."""
        return f"naive {self.scenario}{NOISE if self.noisy else ''}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """`--protocol naive --scenario one-behind`."""
        return ("--protocol", "naive", "--scenario", self.scenario)

    def run(self, choices: Choices) -> RunReport:
        """Play it."""
        return report_of(play(self.script, choices, noisy=self.noisy))
