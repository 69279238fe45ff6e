"""Two durable facts that exclude each other: what is committed here, and what others state (PROTOCOL G6).

Within the fault model there is no such thing. Beyond it a disk can take back what it made durable, and its
replica cannot know: then an acknowledged op may be lost and another stand in its place. Whoever has the proof
of that stops, says so, and keeps its files, which may be the only ones with what was acknowledged.
"""

from __future__ import annotations

__all__ = ["ContradictionError"]


class ContradictionError(Exception):
    """Raised amid a step: nothing that the step decided may count. Its text says what excludes what."""
