"""Stability (INV-34): where nothing fails nobody changes the view, and one that is cut off changes it once at most."""

from __future__ import annotations

from sim.oracles.facts import Facts, violate
from sim.oracles.watch import Oracle
from trio_pb.core.state import State

__all__ = ["Stable"]


class Stable(Oracle):
    """How many views begin once it is told that all is quiet; before that, nothing is demanded."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._view = 0  # The newest that anybody was in.
        self._allowed: int | None = None
        self._reason = ""

    def demand(self, changes: int, reason: str) -> None:
        """From now on at most so many views more; `reason` says what they are allowed for."""
        self._allowed, self._reason = changes, reason

    def on_step(self, replica: int, state: State) -> None:
        """Whoever enters a new view changes it."""
        if state.view <= self._view:
            return
        before, self._view = self._view, state.view
        if self._allowed is None:
            return
        if self._allowed == 0:
            violate(
                "INV-34",
                f"R{replica} leaves view {before} for view {state.view} although {self._reason or 'all is well'}",
            )
        self._allowed -= 1
