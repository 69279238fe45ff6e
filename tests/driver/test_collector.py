"""The garbage collector walks only through what is new."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from trio_pb.driver.collector import spare_the_loop


@pytest.fixture(autouse=True)
def _collector_as_before() -> Iterator[None]:
    callbacks, thresholds = list(gc.callbacks), gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.callbacks[:] = callbacks
    gc.unfreeze()


def test_what_is_there_and_what_survives_is_set_aside() -> None:
    """A full collection leaves nothing for the next one to walk through."""
    state = [[number] for number in range(10_000)]
    spare_the_loop()
    assert len(gc.get_objects()) < len(state)
    more = [[number] for number in range(5_000)]  # Too few for a full collection of its own accord.
    assert len(gc.get_objects()) > len(more)
    gc.collect()
    assert len(gc.get_objects()) < len(more)


def test_garbage_is_still_collected() -> None:
    """Cycles that die before the next full collection."""
    spare_the_loop()
    for _ in range(100):
        make_cycle()
    assert gc.collect() >= 100


def test_no_collection_walks_through_much() -> None:
    """However many objects are made that stay, each full collection finds the last few thousand only."""
    much_before = [[number] for number in range(1_000_000)]
    spare_the_loop()
    walked: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            walked.append(len(gc.get_objects()))

    gc.callbacks.append(note)
    kept = [[number] for number in range(100_000)]
    gc.callbacks.remove(note)
    assert len(kept) > 1000 * len(walked)
    assert len(walked) > 5
    assert max(walked) < 20_000 < len(much_before)


def make_cycle() -> None:
    """Nobody else knows of it."""
    cycle: list[object] = []
    cycle.append(cycle)
