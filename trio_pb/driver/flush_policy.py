"""Whether the loop does storage work itself, or its thread does: decided by measured times.

On a fast disk the way to the thread and back costs more than it saves: two task switches, a
hand-over of the interpreter at each system call and a wake-up of the loop, for a wait of less than a
millisecond. On a slow disk, or one that stalls, the loop must not wait. So work begins in the thread,
moves into the loop when the disk has shown that it is fast, and goes back when the loop was blocked
for too long.

A job's time tells of the disk and of the competition for processors. The fastest of several tells of
the disk alone: on a machine with more work than processors, where a job that takes half a millisecond
took seven on average, working in the loop saved a quarter of the processor time all the same.
"""

from __future__ import annotations

import math

__all__ = ["BLOCKING_SECONDS_MAX", "FlushPolicy"]

FAST_SECONDS = 0.003  # The fastest job of a trial: two flushes with their writes.
STALL_SECONDS = 0.1  # No job of a trial may take longer.
TRIAL_JOBS = 16
SLOW_SECONDS = 0.01  # On average, a job may block the loop for no longer: one tick, timers are no finer.
BLOCKING_SECONDS_MAX = 0.01  # A job still running in the loop then goes to the thread.
AVERAGE_JOBS = 16  # An exponential average over about so many jobs; one stall of 0.16 s exceeds it.
TRIALS_MAX = 1 << 10  # The trials needed double with each return to the thread, for a disk that stalls at times.
PARDON_JOBS = 1 << 10  # In the loop without a return, and one trial is enough again.


class FlushPolicy:
    """Judges jobs by their time. Pure: times come in, the answer is `is_inline`."""

    def __init__(self) -> None:
        self.is_inline = False  # Whether the loop should do the next job.
        self._trials_needed = 1
        self._trials_passed = 0  # In a row.
        self._jobs = 0  # Of this trial, or in the loop since work moved there.
        self._fastest = math.inf  # Of this trial, seconds.
        self._average = 0.0  # Seconds that jobs in the loop took.

    def note(self, seconds: float) -> None:
        """Take a job into account that took `seconds`, or that the loop gave up after them."""
        self._jobs += 1
        if self.is_inline:
            self._average += (seconds - self._average) / AVERAGE_JOBS
            if self._average > SLOW_SECONDS:
                self._move(inline=False)
                self._trials_needed = min(2 * self._trials_needed, TRIALS_MAX)
            elif self._jobs >= PARDON_JOBS:
                self._trials_needed = 1
            return
        self._fastest = min(self._fastest, seconds)
        if seconds > STALL_SECONDS:
            self._end_trial(passed=False)
        elif self._jobs >= TRIAL_JOBS:
            self._end_trial(passed=self._fastest <= FAST_SECONDS)

    def _end_trial(self, *, passed: bool) -> None:
        self._trials_passed = self._trials_passed + 1 if passed else 0
        self._jobs = 0
        self._fastest = math.inf
        if self._trials_passed >= self._trials_needed:
            self._move(inline=True)

    def _move(self, *, inline: bool) -> None:
        self.is_inline = inline
        self._trials_passed = 0
        self._jobs = 0
        self._average = 0.0
