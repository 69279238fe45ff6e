"""A timer of the core: it compares ticks, nothing else (PROTOCOL 6.1)."""

from __future__ import annotations

import attrs

__all__ = ["NEVER", "Timeout"]

NEVER = 1 << 62  # A tick that does not come.


@attrs.define
class Timeout:
    """Fires once when `after_ticks` have passed since it was started, however long a pause was."""

    name: str
    after_ticks: int = 0
    started_tick: int = 0
    running: bool = False

    def start(self, now_tick: int, after_ticks: int) -> None:
        """(Re)start to fire `after_ticks` from now."""
        assert after_ticks > 0, f"{self.name}: a timeout lies in the future"
        self.started_tick = now_tick
        self.after_ticks = after_ticks
        self.running = True

    def stop(self) -> None:
        """Do not fire."""
        self.running = False

    @property
    def deadline_tick(self) -> int:
        """The tick at which it fires; NEVER when stopped."""
        return self.started_tick + self.after_ticks if self.running else NEVER

    def is_due(self, now_tick: int) -> bool:
        """Whether it fires now."""
        assert now_tick >= self.started_tick, f"{self.name}: time ran back"
        return self.running and now_tick - self.started_tick >= self.after_ticks
