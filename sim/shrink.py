"""Make a failure small enough to read: fewest choices that still break the same rule in the same place.

A run is a set of keyed choices, and leaving one out renumbers nothing, so ever finer parts of the set are
tried without: all faults of a label first (`lose`), then those of one entity (`lose, Prepare, 0`, or
`crash, 3`), down to single draws. This is delta debugging (Zeller and Hildebrandt 2002) along the
hierarchy of the keys. Between its rounds sizes and values are lowered: fewer operations of a client,
smaller numbers. What a failing candidate never drew is dropped with it, and so is all that would have come
after the failure.

Candidates are tried in order, several at once in as many processes; the first that fails is taken, so the
result does not depend on how many there are, unless time runs out: then the best so far counts.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations, islice
from multiprocessing.pool import Pool
from typing import TypeAlias

import attrs

from sim.choices import Choices, Key
from sim.crews import leave_interrupts, uncollected
from sim.experiment import Experiment
from sim.recording import Recording
from sim.run import Failure
from trio_pb.errors import ConfigError

__all__ = ["Progress", "Shrunk", "shrink"]

Found: TypeAlias = "dict[Key, int]"

PAIRS_MAX = 20  # Choices of which pairs are tried without as well.
ROUNDS_MAX = 10


@attrs.frozen
class Attempt:
    """What became of a candidate."""

    failure: Failure | None
    made: Found  # Of its choices, those that the run met.
    defaults: Found  # Of the numbers among them.
    sizes: Found  # Sizes that can be lowered.
    trace_digest: int
    events: int

    @property
    def extent(self) -> tuple[int, int]:
        """How far it is from a run without choices: how many there are, and how large."""
        return len(self.made), sum(abs(value - self.defaults.get(key, 0)) for key, value in self.made.items())


@attrs.frozen(kw_only=True)
class Progress:
    """How far it is."""

    step: str  # What is tried, in words.
    choices: int  # Of the best so far,
    events: int  # and its length.
    tried: int  # Runs.
    seconds: float


@attrs.frozen(kw_only=True)
class Shrunk:
    """The smallest failure that was found."""

    recording: Recording
    choices_before: int
    events_before: int
    tried: int
    seconds: float
    is_complete: bool  # Nothing more can be left out; else the search was cut short.


class _OutOfTimeError(Exception):
    """The budget is spent."""


def shrink(
    recording: Recording,
    *,
    jobs: int = 1,
    budget_s: float = 60.0,
    progress: Callable[[Progress], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Shrunk:
    """Return the smallest recording found within `budget_s`, or until Ctrl-C, that fails as `recording` does.

    Raises:
        ConfigError: the recording does not fail, or fails otherwise than it says.
    """
    with _pool(jobs) as pool, uncollected():
        return _Shrinker(recording, pool, jobs, budget_s, progress, clock).run()


class _Shrinker:
    """One search."""

    def __init__(
        self,
        recording: Recording,
        pool: Pool | None,
        jobs: int,
        budget_s: float,
        progress: Callable[[Progress], None],
        clock: Callable[[], float],
    ) -> None:
        self._recording = recording
        self._pool = pool
        self._jobs = jobs
        self._clock = clock
        self._began = clock()
        self._budget_s = budget_s
        self._progress = progress
        self._step = ""
        self._tried = 0
        self._vain: set[frozenset[tuple[Key, int]]] = set()  # Candidates that were of no use.
        first = _attempt((recording.experiment, recording.seed, dict(recording.choices)))
        if first.failure is None:
            raise ConfigError("this recording does not fail, so there is nothing to shrink")
        if recording.failure is not None and not first.failure.is_like(recording.failure):
            raise ConfigError(f"this recording fails otherwise than it says, with {first.failure.signature}")
        self._wanted = first.failure
        self._best = first
        self._before = first

    def run(self) -> Shrunk:
        """Search until nothing more goes, time is up, or somebody has seen enough."""
        is_complete = True
        try:
            self._go()
        except (_OutOfTimeError, KeyboardInterrupt):
            is_complete = False
        best = self._best
        assert best.failure is not None
        recording = attrs.evolve(
            self._recording,
            trace_digest=best.trace_digest,
            events=best.events,
            failure=attrs.evolve(best.failure, story=""),
            choices=best.made,
        )
        return Shrunk(
            recording=recording,
            choices_before=len(self._before.made),
            events_before=self._before.events,
            tried=self._tried,
            seconds=self._clock() - self._began,
            is_complete=is_complete,
        )

    def _go(self) -> None:
        for _ in range(ROUNDS_MAX):
            before = self._best.made
            for depth in range(1, 1 + max(map(len, before), default=0)):
                self._step = "leaving out kinds" if depth == 1 else f"leaving out parts of {depth} words"
                self._leave_out(depth)
            self._step = "lowering sizes"
            self._lower_sizes()
            self._step = "lowering values"
            self._lower_values()
            if self._best.made == before:
                break
        self._step = "leaving out pairs"
        self._leave_out_pairs()

    # --- Ways to make it smaller ------------------------------------------------------------------

    def _leave_out(self, depth: int) -> None:
        """Delta debugging over the groups of keys that begin with the same `depth` parts."""
        granularity = 1
        while groups := self._groups(depth):
            size = -(-len(groups) // granularity)
            chunks = [groups[at : at + size] for at in range(0, len(groups), size)]
            if self._take_first(self._without(key for group in chunk for key in group) for chunk in chunks):
                granularity = max(1, granularity - 1)
            elif size == 1:
                return
            else:
                granularity = min(len(groups), 2 * granularity)

    def _groups(self, depth: int) -> list[list[Key]]:
        groups: dict[Key, list[Key]] = {}
        for key in self._best.made:
            groups.setdefault(key[:depth], []).append(key)
        return sorted(groups.values(), key=len, reverse=True)

    def _leave_out_pairs(self) -> None:
        """The cautious last pass: two that each are needed only because of the other."""
        while len(self._best.made) <= PAIRS_MAX:
            if not self._take_first(self._without(pair) for pair in combinations(list(self._best.made), 2)):
                break

    def _lower_sizes(self) -> None:
        """Nothing at all, else half, else three quarters, ... of each size; what that costs must make it shorter."""
        for key in self._best.sizes:
            while (size := self._size(key)) and self._take_first(
                (self._with(key, lower) for lower in _between(0, size)), shorter=key not in self._best.made
            ):
                pass

    def _size(self, key: Key) -> int:
        return self._best.made.get(key, self._best.sizes.get(key, 0))

    def _lower_values(self) -> None:
        """Half way from its default, three quarters, ... of each number; the default itself was tried before."""
        for key in list(self._best.made):
            while (value := self._best.made.get(key)) is not None and self._take_first(
                self._with(key, lower) for lower in islice(_between(self._default_of(key), value), 1, None)
            ):
                pass

    def _default_of(self, key: Key) -> int:
        return self._best.defaults.get(key, 0)

    # --- Candidates -------------------------------------------------------------------------------

    def _without(self, keys: Iterable[Key]) -> Found:
        gone = set(keys)
        return {key: value for key, value in self._best.made.items() if key not in gone}

    def _with(self, key: Key, value: int) -> Found:
        return {**self._best.made, key: value}

    def _take_first(self, candidates: Iterable[Found], *, shorter: bool = False) -> bool:
        """Make the first candidate that fails as wanted (`shorter`: sooner) the best one; False if none does."""
        unseen = (candidate for candidate in candidates if not self._is_vain(candidate))
        while batch := list(islice(unseen, max(1, self._jobs))):
            for candidate, attempt in zip(batch, self._attempts(batch), strict=True):
                if self._is_better(attempt, shorter=shorter):
                    self._best = attempt
                    self._report()
                    return True
                self._vain.add(frozenset(candidate.items()))
            self._report()
        return False

    def _is_better(self, attempt: Attempt, *, shorter: bool) -> bool:
        if attempt.failure is None or not attempt.failure.is_like(self._wanted):
            return False
        # What a run makes of a choice may be what it had: the number that was lowered is out of range.
        return attempt.events < self._best.events if shorter else attempt.extent < self._best.extent

    def _is_vain(self, candidate: Found) -> bool:
        return candidate == self._best.made or frozenset(candidate.items()) in self._vain

    def _attempts(self, batch: Sequence[Found]) -> Iterator[Attempt]:
        work = [(self._recording.experiment, self._recording.seed, candidate) for candidate in batch]
        attempts = None if self._pool is None else self._pool.imap(_attempt, work)
        for candidate in work:
            left = self._began + self._budget_s - self._clock()
            if left <= 0:
                raise _OutOfTimeError
            self._tried += 1
            try:
                yield _attempt(candidate) if attempts is None else attempts.next(left)
            except multiprocessing.TimeoutError as error:
                raise _OutOfTimeError from error

    def _report(self) -> None:
        best = self._best
        seconds = self._clock() - self._began
        self._progress(
            Progress(step=self._step, choices=len(best.made), events=best.events, tried=self._tried, seconds=seconds)
        )


def _between(low: int, value: int) -> Iterator[int]:
    """Numbers from `low` on, halving the distance to `value`, which is the last but left out."""
    while low != value:
        yield low
        half = (value - low) // 2 if value > low else -((low - value) // 2)
        if half == 0:
            return
        low += half


def _attempt(work: tuple[Experiment, int, Found]) -> Attempt:
    """Worker: run a candidate."""
    experiment, seed, candidate = work
    choices = Choices(seed, candidate)
    report = experiment.run(choices)
    gc.collect()
    return Attempt(report.failure, choices.made, choices.defaults, choices.sizes, report.trace_digest, report.events)


@contextmanager
def _pool(jobs: int) -> Generator[Pool | None, None, None]:
    if jobs <= 1:
        yield None
        return
    # On leaving it, what began in vain is let go of.
    with multiprocessing.get_context("spawn").Pool(jobs, _begin_worker) as pool:
        yield pool


def _begin_worker() -> None:
    leave_interrupts()
    gc.disable()
    gc.freeze()
