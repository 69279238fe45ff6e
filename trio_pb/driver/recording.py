"""What went into a core and what came out of it: enough to run the same history through it again.

The core knows nothing but its inputs (PROTOCOL 4), so a fresh one that is given the recorded steps gives the
recorded outputs, whatever sockets, disks and clocks the replica ran on. A recording holds everything in
memory: it is for tests and for runs that one wants to take apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from trio_pb.core.config import Options
from trio_pb.core.ports import Input, Output, Report
from trio_pb.core.replica import Replica

__all__ = ["RecordedStep", "RecordingCore", "first_difference"]


class RecordedStep(NamedTuple):
    """One call of the core."""

    now_tick: int
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]


class RecordingCore:
    """Stands in front of a core and notes every step (`host.Core`). One boot of one replica."""

    def __init__(self, core: Replica) -> None:
        self._core = core
        self.steps: list[RecordedStep] = []

    @property
    def options(self) -> Options:
        """What the core was told."""
        return self._core.state.options

    @property
    def next_deadline_tick(self) -> int:
        """That of the core."""
        return self._core.next_deadline_tick

    def step(self, now_tick: int, inputs: Sequence[Input]) -> list[Output]:
        """Pass the step on."""
        outputs = self._core.step(now_tick, inputs)
        self.steps.append(RecordedStep(now_tick, tuple(inputs), tuple(outputs)))
        return outputs

    def report(self) -> Report:
        """That of the core."""
        return self._core.report()


def first_difference(options: Options, steps: Sequence[RecordedStep]) -> int | None:
    """Run `steps` through a fresh core; return the index of the first that gives other outputs, None for none."""
    core = Replica(options)
    for index, step in enumerate(steps):
        if tuple(core.step(step.now_tick, list(step.inputs))) != step.outputs:
            return index
    return None
