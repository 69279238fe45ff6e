"""Who runs the seeds of a sweep: this process, or several on this machine. Crews of other machines: `sim.dask_crew`."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import attrs

from sim.code_digest import code_digest
from sim.experiment import Experiment, run_seed
from sim.run import RunReport

__all__ = ["ONE_PROCESS", "Block", "Crew", "Done", "Processes", "leave_interrupts", "run_block", "uncollected"]

SEEDS_PER_COLLECTION = 1  # Sixteen MB a run: more at once would not stay in the cache of a processor.


class Block(NamedTuple):
    """Seeds that are run together."""

    experiment: Experiment
    first_seed: int
    seeds: int


class Done(NamedTuple):
    """A block that was run."""

    reports: list[RunReport]
    cpu_seconds: float
    code: int  # `code_digest` of whoever ran it.


class Crew(Protocol):
    """Whoever runs blocks."""

    @property
    def size(self) -> int:
        """How many blocks are run at a time, at least 1."""
        ...

    def run(self, blocks: Sequence[Block]) -> Generator[Done]:
        """Run them; they come in their order, so that reports are reproducible. Closing it stops what still runs."""
        ...


@attrs.frozen
class Processes:
    """Processes of this machine; one is this process itself."""

    size: int

    def run(self, blocks: Sequence[Block]) -> Generator[Done]:
        """Run them."""
        if self.size == 1 or not blocks:
            yield from map(run_block, blocks)
            return
        with multiprocessing.get_context("spawn").Pool(self.size, leave_interrupts) as pool:
            yield from pool.imap(run_block, blocks)


ONE_PROCESS = Processes(1)


def run_block(block: Block) -> Done:
    """Worker: run its seeds."""
    began = time.process_time()
    reports: list[RunReport] = []
    with uncollected():
        for seed in range(block.first_seed, block.first_seed + block.seeds):
            reports.append(run_seed(seed, block.experiment))
            if len(reports) % SEEDS_PER_COLLECTION == 0:
                gc.collect()
    return Done(reports, time.process_time() - began, code_digest())


def leave_interrupts() -> None:
    """Worker: Ctrl-C is for the process that started us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def uncollected() -> Generator[None]:
    """Leave it to the caller when cycles are collected.

    Those of a run are its whole world, to be collected between runs; what was there before them (modules,
    mostly) stays, so it need not be walked through each time.
    """
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()
