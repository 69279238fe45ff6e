"""The garbage collector walks only through what is new."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from trio_pb.driver.collector import spare_the_loop


@pytest.fixture(autouse=True)
def _collector_as_before() -> Iterator[None]:
    callbacks = list(gc.callbacks)
    yield
    gc.callbacks[:] = callbacks
    gc.unfreeze()


def test_what_is_there_and_what_survives_is_set_aside() -> None:
    """A full collection leaves nothing for the next one to walk through."""
    state = [[number] for number in range(10_000)]
    spare_the_loop()
    assert len(gc.get_objects()) < len(state)
    more = [[number] for number in range(10_000)]
    assert len(gc.get_objects()) > len(more)
    gc.collect()
    assert len(gc.get_objects()) < len(more)


def test_garbage_is_still_collected() -> None:
    """Cycles that die before the next full collection."""
    spare_the_loop()
    for _ in range(100):
        make_cycle()
    assert gc.collect() >= 100


def make_cycle() -> None:
    """Nobody else knows of it."""
    cycle: list[object] = []
    cycle.append(cycle)
