"""Look for one planted bug: seed after seed, until an oracle notices it or the budget is spent.

All mutants are hunted alike: the same seeds in the same order, each in the next of the profiles in turn. Nobody
tells where to look. A bug that only the core's own asserts notice counts for less than one that is seen from
outside, so there are two hunts: through the shipped code, and through the code without its asserts.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path

import attrs

from sim.choices import Choices
from sim.crews import uncollected
from sim.experiment import Experiment, Swarm, run_seed
from sim.mutants.catalogue import find
from sim.mutants.mutant import Mutant, planted
from sim.mutants.without_asserts import without_asserts
from sim.recording import record
from sim.run import IMPOSSIBLE, Failure, RunReport
from sim.shrink import shrink

__all__ = ["ROTA", "Budget", "Catch", "Find", "Planted", "Verdict", "hunt", "is_by_oracle", "look"]

# Ambushes are about the protocol and cheap, calm runs cost most.
ROTA = ("all", "ambush", "storage", "ambush", "all", "crash", "ambush", "network", "all", "ambush", "clock", "calm")
FIRST_SEED = 1
ALIVE_SEEDS = 12  # Of a mutant that nobody noticed: does it change a run at all?
STOPPED = "fatal"  # The rule of a replica that stopped by itself: it was the core that noticed.


@attrs.frozen(kw_only=True)
class Budget:
    """How long to look for one mutant, in each of the two hunts."""

    cpu_seconds: float = 20.0
    seeds: int | None = None  # At most; with it alone, equal budgets give equal verdicts on every machine.
    shrink_seconds: float = 10.0  # 0: what is found is not made smaller.
    first_seed: int = FIRST_SEED


@attrs.frozen(kw_only=True)
class Catch:
    """A run in which it was noticed."""

    rule: str
    text: str
    where: str
    is_by_oracle: bool  # From outside; else by an assert, another exception or a stop of the core.
    profile: str
    seed: int


@attrs.frozen(kw_only=True)
class Find:
    """What came of one hunt."""

    catch: Catch | None
    runs: int
    cpu_seconds: float


@attrs.frozen(kw_only=True)
class Verdict:
    """What is known of a mutant after both hunts."""

    mutant: Mutant
    shipped: Find
    without_asserts: Find
    is_alive: bool  # It changes what happens in some run.
    choices: int = 0  # Of the smallest failing run that was found from outside,
    events: int = 0  # and how long that is; 0 where nothing was shrunk.

    @property
    def outside(self) -> Find | None:
        """The hunt in which an oracle noticed it from outside."""
        finds = (self.shipped, self.without_asserts)
        return next((it for it in finds if it.catch is not None and it.catch.is_by_oracle), None)

    @property
    def is_found(self) -> bool:
        """Whether an oracle noticed it, with nobody in the core to help."""
        caught = self.without_asserts.catch
        return caught is not None and caught.is_by_oracle

    @property
    def status(self) -> str:
        """In one or a few words."""
        if self.is_found:
            return "found"
        if self.outside is not None:
            return "found, but not without asserts"
        if self.mutant.equivalent:
            return "equivalent"
        return "missed" if self.shipped.catch is None else "found by the core alone"


@attrs.frozen
class Planted:
    """An experiment with a bug in the code while it runs; compared by value like any other."""

    mutant: str
    base: Experiment = attrs.field(factory=Swarm)
    source: Path | None = None  # The file that it comes from; None: ours.

    @property
    def name(self) -> str:
        """That of the base: its recording says what to run, not what is wrong."""
        return self.base.name

    @property
    def arguments(self) -> tuple[str, ...]:
        """Those of the base."""
        return self.base.arguments

    def run(self, choices: Choices) -> RunReport:
        """Run the base with the bug."""
        with planted(find(self.mutant, self.source)):
            return self.base.run(choices)


def is_by_oracle(failure: Failure) -> bool:
    """Whether it was noticed from outside: not by what the program raises, nor by a replica that stops itself."""
    return failure.is_by_oracle and failure.rule not in (STOPPED, IMPOSSIBLE)


def runs_of(budget: Budget) -> Iterator[tuple[int, Swarm]]:
    """Seeds and the worlds that they are run in, without end unless the budget names one."""
    seeds = count(budget.first_seed)
    for index, seed in enumerate(seeds):
        if budget.seeds is not None and index >= budget.seeds:
            return
        yield seed, Swarm(ROTA[index % len(ROTA)])


def look(
    budget: Budget, *, asserts: bool, mutants: tuple[Mutant, ...] = (), clock: Callable[[], float] = time.process_time
) -> Find:
    """Run seeds until something is noticed: with asserts by anybody, without them by an oracle from outside."""
    began = clock()
    runs = 0
    with nullcontext() if asserts else without_asserts(), planted(*mutants), uncollected():
        for seed, world in runs_of(budget):
            if clock() - began >= budget.cpu_seconds:
                break
            runs += 1
            report = run_seed(seed, world)
            gc.collect()
            failure = report.failure
            if failure is not None and (asserts or is_by_oracle(failure)):
                catch = Catch(
                    rule=failure.rule,
                    text=failure.text.partition("\n")[0],
                    where=failure.where,
                    is_by_oracle=is_by_oracle(failure),
                    profile=world.profile,
                    seed=seed,
                )
                return Find(catch=catch, runs=runs, cpu_seconds=clock() - began)
    return Find(catch=None, runs=runs, cpu_seconds=clock() - began)


def hunt(name: str, budget: Budget, source: Path | None = None) -> Verdict:
    """Look for a mutant, perhaps of the file `source`, in both ways, and make small what an oracle noticed."""
    mutant = find(name, source)
    shipped = look(budget, asserts=True, mutants=(mutant,))
    bare = look(budget, asserts=False, mutants=(mutant,))
    is_alive = shipped.catch is not None or bare.catch is not None or _changes_something(mutant, budget)
    verdict = Verdict(mutant=mutant, shipped=shipped, without_asserts=bare, is_alive=is_alive)
    outside = verdict.outside
    if outside is None or outside.catch is None or budget.shrink_seconds <= 0:
        return verdict
    experiment = Planted(name, Swarm(outside.catch.profile), source)
    choices, events = _size(experiment, outside.catch.seed, budget.shrink_seconds, asserts=outside is shipped)
    return attrs.evolve(verdict, choices=choices, events=events)


def _changes_something(mutant: Mutant, budget: Budget) -> bool:
    """Whether any of the first runs goes otherwise with the mutant than without."""
    few = attrs.evolve(budget, seeds=min(ALIVE_SEEDS, budget.seeds or ALIVE_SEEDS))
    with uncollected():
        for seed, world in runs_of(few):
            right = run_seed(seed, world)
            with planted(mutant):
                wrong = run_seed(seed, world)
            gc.collect()
            if (right.trace_digest, right.marks) != (wrong.trace_digest, wrong.marks):
                return True
    return False


def _size(experiment: Experiment, seed: int, seconds: float, *, asserts: bool) -> tuple[int, int]:
    """Choices and events of the smallest run found that fails as that seed does."""
    with nullcontext() if asserts else without_asserts():
        shrunk = shrink(record("", experiment, seed), budget_s=seconds, clock=time.process_time)
    return len(shrunk.recording.choices), shrunk.recording.events
