"""Hunt many mutants, in as many processes as there are to spare, and add up what became of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import attrs

from sim.crews import leave_interrupts
from sim.mutants.catalogue import find
from sim.mutants.hunt import Budget, Find, Verdict, hunt, look

__all__ = ["Score", "score"]


@attrs.frozen(kw_only=True)
class Score:
    """Many mutants, and the shipped code itself, which is to pass where they fail."""

    verdicts: tuple[Verdict, ...]
    clean: tuple[Find, ...]  # Nothing planted: with the core's asserts, and without.

    @property
    def to_be_found(self) -> list[Verdict]:
        """All that are not equivalent to the code without them."""
        return [it for it in self.verdicts if not it.mutant.equivalent or it.is_found]

    @property
    def found(self) -> list[Verdict]:
        """Those that an oracle noticed from outside, with no assert in the core."""
        return [it for it in self.to_be_found if it.is_found]

    @property
    def times(self) -> list[float]:
        """CPU seconds that it took to find them."""
        return [it.outside.cpu_seconds for it in self.found if it.outside is not None]

    @property
    def median_seconds(self) -> float:
        """Half of those found took no longer."""
        return median(self.times) if self.times else 0.0

    @property
    def unpaired(self) -> list[str]:
        """Mutants called equivalent whose pair was hunted and not found: the argument lacks its proof."""
        found = {it.mutant.name for it in self.found}
        hunted = {it.mutant.name for it in self.verdicts}
        return [
            it.mutant.name
            for it in self.verdicts
            if it.status == "equivalent" and it.mutant.pair in hunted and it.mutant.pair not in found
        ]

    @property
    def is_clean(self) -> bool:
        """Nothing was noticed where nothing is planted."""
        return all(it.catch is None for it in self.clean)

    @property
    def is_complete(self) -> bool:
        """All found from outside, and nothing where there is nothing."""
        return self.is_clean and not self.unpaired and len(self.found) == len(self.to_be_found)


def score(
    names: Sequence[str],
    budget: Budget,
    *,
    source: Path | None = None,
    jobs: int = 1,
    clean_budget: Budget | None = None,
    progress: Callable[[Verdict], None] = lambda _: None,
) -> Score:
    """Hunt the mutants called `names`, some of them perhaps from the file `source`, and then nothing at all.

    Raises:
        ConfigError: as `from_file`; or there is no mutant of some name.
    """
    verdicts: list[Verdict] = []
    for verdict in _verdicts(names, budget, source, jobs):
        verdicts.append(verdict)
        progress(verdict)
    clean = tuple(look(clean_budget, asserts=asserts) for asserts in (True, False)) if clean_budget else ()
    return Score(verdicts=tuple(verdicts), clean=clean)


def _verdicts(names: Sequence[str], budget: Budget, source: Path | None, jobs: int) -> Iterator[Verdict]:
    if jobs <= 1:
        yield from (hunt(name, budget, source) for name in names)
        return
    # A mutant is made of functions within functions, which do not travel to another process: its name does.
    work = [(name, budget, source) for name in names]
    with multiprocessing.get_context("spawn").Pool(jobs, leave_interrupts) as pool:
        for name, fields in zip(names, pool.imap(_hunt, work), strict=True):
            yield Verdict(mutant=find(name, source), **fields)


def _hunt(work: tuple[str, Budget, Path | None]) -> dict[str, Any]:
    """Worker: hunt one; returns what a verdict has beside its mutant."""
    verdict = hunt(*work)
    return attrs.asdict(verdict, recurse=False, filter=lambda field, _: field.name != "mutant")
