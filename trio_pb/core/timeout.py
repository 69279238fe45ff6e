"""A timer of the core: it compares ticks, nothing else (PROTOCOL 6.1)."""

from __future__ import annotations

import attrs

__all__ = ["NEVER", "Timeout"]

NEVER = 1 << 62  # A tick that does not come.


@attrs.define
class Timeout:
    """Fires once when `after_ticks` have passed since it was started, however long a pause was."""

    name: str
    started_tick: int = 0
    deadline_tick: int = NEVER  # When it fires; NEVER when stopped. Asked for after every step.

    @property
    def running(self) -> bool:
        """Whether it will fire."""
        return self.deadline_tick != NEVER

    def start(self, now_tick: int, after_ticks: int) -> None:
        """(Re)start to fire `after_ticks` from now."""
        assert after_ticks > 0, f"{self.name}: a timeout lies in the future"
        self.started_tick = now_tick
        self.deadline_tick = now_tick + after_ticks

    def stop(self) -> None:
        """Do not fire."""
        self.deadline_tick = NEVER

    def is_due(self, now_tick: int) -> bool:
        """Whether it fires now."""
        assert now_tick >= self.started_tick, f"{self.name}: time ran back"
        return self.deadline_tick <= now_tick and self.running
