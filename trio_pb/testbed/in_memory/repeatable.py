"""A Trio run that is a function of its seed: the order of tasks is drawn from it, time is virtual.

Trio shuffles the tasks that are ready, from a generator that nobody can seed through its public interface,
and says so in its documentation. pytest-trio and Hypothesis make runs repeatable by two private names of
Trio; this is the one place where we use them as well. What else could differ between two runs is left out
of what runs here: no threads, no sockets, no iteration over sets, no clock but the virtual one.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio
import trio._core._run as scheduler
from trio.testing import MockClock

__all__ = ["run_repeatably"]

T = TypeVar("T")

# Any: Trio declares the first of them as a constant.
_scheduler: Any = scheduler


def run_repeatably(seed: int, clock: MockClock, main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` on Trio; equal seeds give equal interleavings. The clock jumps when every task waits."""
    clock.autojump_threshold = 0
    with _seeded(seed), _no_collections():
        return trio.run(main, clock=clock)


@contextmanager
def _seeded(seed: int) -> Generator[None, None, None]:
    before = _scheduler._ALLOW_DETERMINISTIC_SCHEDULING, _scheduler._r.getstate()  # noqa: SLF001
    _scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # noqa: SLF001
    _scheduler._r.seed(seed)  # noqa: SLF001
    try:
        yield
    finally:
        _scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before[0]  # noqa: SLF001
        _scheduler._r.setstate(before[1])  # noqa: SLF001


@contextmanager
def _no_collections() -> Generator[None, None, None]:
    """The garbage collector runs finalizers when it likes; between two runs it may."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
            gc.collect(1)
