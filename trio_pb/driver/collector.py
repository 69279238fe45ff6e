"""The garbage collector of a replica's process: it must not stop the loop for long.

A full collection walks through every object that could be part of a cycle. What a program consists of
takes 20 ms already, a session table and the ids of a million customers several times that. So whatever
survived a full collection is set aside (`gc.freeze`), and the next one walks only through what was made
since. That it comes soon, after some 9,000 objects instead of the usual 77,000, makes it short: 4 ms instead
of 35 while checkpoints of a million customers were written. What is set aside and becomes part of a dead
cycle later is never freed; our objects, and Trio's for a connection, form none that live that long.
"""

from __future__ import annotations

import gc

__all__ = ["spare_the_loop"]

FULL = 2  # The oldest generation.
# A young collection after so many new objects, a middle one after more than four young ones, a full one
# after more than one middle one.
THRESHOLDS = (700, 4, 1)


def spare_the_loop() -> None:
    """Set aside what is there now, and from now on what survives a full collection. For a process of our own."""
    gc.set_threshold(*THRESHOLDS)
    gc.collect()
    gc.freeze()
    # A full collection waits until a quarter of what the last one left is new: it shall remember nothing.
    gc.collect()
    if _set_survivors_aside not in gc.callbacks:
        gc.callbacks.append(_set_survivors_aside)


def _set_survivors_aside(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == FULL:
        gc.freeze()
