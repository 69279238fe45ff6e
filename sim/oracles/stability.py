"""Stability (INV-34): where nothing fails nobody changes the view, and one that is cut off changes it once at most."""

from __future__ import annotations

from sim.oracles.facts import Facts, violate
from sim.oracles.watch import Oracle
from trio_pb.core.config import Timeouts
from trio_pb.core.messages import Commit, CommitOk, StartViewChange, ViewChangeReason
from trio_pb.core.ports import Send, Start
from trio_pb.core.state import State

__all__ = ["HeardIsNotSilent", "LeadsWithALiveDisk", "Stable"]


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


class HeardIsNotSilent(Oracle):
    """INV-34: whoever answered a heartbeat of its primary does not call that primary silent soon after (6.2, T-23).

    One doubt that stays makes the next one, of somebody else and long after, a change of the view.
    """

    def __init__(self, facts: Facts, timeouts: Timeouts) -> None:
        super().__init__(facts)
        self._patience_ticks = timeouts.suspect_ticks
        self._ticks: dict[int, int] = {}  # Replica -> what time it is there.
        self._heard: dict[int, tuple[int, int]] = {}  # Replica -> the view whose heartbeat it answered last, and when.

    def on_start(self, replica: int, _: Start) -> None:
        """A new process has heard nobody."""
        self._heard.pop(replica, None)

    def on_step(self, replica: int, state: State) -> None:
        """Look at its clock."""
        self._ticks[replica] = state.now_tick

    def on_commit_ok(self, replica: int, send: Send, _: CommitOk) -> None:
        """It hears its primary."""
        self._heard[replica] = send.envelope.view, self._ticks[replica]

    def on_start_view_change(self, replica: int, send: Send, message: StartViewChange) -> None:
        """It wishes for another."""
        if message.reason is not ViewChangeReason.PRIMARY_SILENT:
            return
        view, tick = self._heard.get(replica, (-1, 0))
        waited = self._ticks[replica] - tick
        if view == send.envelope.view and waited < self._patience_ticks:
            violate("INV-34", f"R{replica} calls the primary of view {view} silent, heard {waited} ticks ago")


class LeadsWithALiveDisk(Oracle):
    """T-26: a primary whose journal does not get on stops its heartbeats (T_DISK, 6.1)."""

    def __init__(self, facts: Facts, timeouts: Timeouts) -> None:
        super().__init__(facts)
        self._patience_ticks = timeouts.disk_ticks + timeouts.ping_ticks
        # It may have slept: what it says as it wakes up it says before it has looked.
        self._look_ticks = 2 * timeouts.ping_ticks
        self._ticks: dict[int, int] = {}  # Replica -> what time it is there.
        self._waits: dict[int, tuple[int, int]] = {}  # Replica -> its oldest append under way, and since when.
        self._late: dict[int, int] = {}  # Replica -> its first heartbeat with an append that is late.

    def on_start(self, replica: int, _: Start) -> None:
        """A new process waits for nothing."""
        self._waits.pop(replica, None)
        self._late.pop(replica, None)

    def on_step(self, replica: int, state: State) -> None:
        """Look at its clock."""
        self._ticks[replica] = state.now_tick

    def on_commit_message(self, replica: int, _: Send, __: Commit) -> None:
        """It leads: does its disk get on?"""
        oldest = self.facts.disks[replica].oldest_append
        now = self._ticks[replica]
        known, since = self._waits.get(replica, (None, now))
        if oldest is None or oldest != known:
            self._late.pop(replica, None)
            if oldest is not None:
                self._waits[replica] = oldest, now
            return
        if now - since < self._patience_ticks:
            return
        if now - self._late.setdefault(replica, now) >= self._look_ticks:
            violate("dead disk", f"R{replica} leads on; its disk has not finished an append for {now - since} ticks")
