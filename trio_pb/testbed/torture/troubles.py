"""What is wrong with the machine under one replica process at a moment, and how its starter tells it.

One line of JSON on standard input, which only the starter holds, says all of it anew. So there is no
door in the process that anybody else could open, and the process that follows begins with a sound machine.
"""

from __future__ import annotations

import json

import attrs

__all__ = ["Troubles"]


@attrs.frozen(kw_only=True)
class Troubles:
    """All that can be wrong with clock and disk. The default: nothing is."""

    clock_ahead_seconds: float = 0.0  # Of the date; below zero it is behind.
    clock_rate: float = 1.0  # Seconds that pass here while one passes elsewhere.
    is_full: bool = False  # No room for a new or longer file.
    step_seconds: float = 0.0  # Every write, flush and allocation takes so much longer.
    fails: str = ""  # "write" or "flush": each fails with EIO.
    unreadable_share: float = 0.0  # Of the pages of log and checkpoints: they cannot be read.

    def to_line(self) -> bytes:
        """One line that says it."""
        return json.dumps(attrs.asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Troubles:
        """The inverse of `to_line`."""
        return cls(**json.loads(line))
