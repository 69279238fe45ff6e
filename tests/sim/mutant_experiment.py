"""Runs of the shipped code with one rule taken out: an experiment like any other, in any process."""

from __future__ import annotations

import attrs
import pytest

from sim.choices import Choices
from sim.experiment import Experiment, Swarm
from sim.run import RunReport
from tests.sim.mutants import MUTANTS

__all__ = ["Mutated"]


@attrs.frozen
class Mutated:
    """Another experiment, with a mutant planted while it runs."""

    mutant: str
    base: Experiment = attrs.field(factory=Swarm)

    @property
    def name(self) -> str:
        """That of the base: its recording says what to run, not what is wrong."""
        return self.base.name

    @property
    def arguments(self) -> tuple[str, ...]:
        """Those of the base."""
        return self.base.arguments

    def run(self, choices: Choices) -> RunReport:
        """Run the base with the mutant."""
        with pytest.MonkeyPatch.context() as patch:
            MUTANTS[self.mutant](patch)
            return self.base.run(choices)
