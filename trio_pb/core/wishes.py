"""Wishing for another view: a pre-vote that binds nobody (PROTOCOL 6.2).

A replica that wants another primary says so until enough want one too; only then does anybody move.
One badly connected replica therefore disturbs nothing.
"""

from __future__ import annotations

from trio_pb.core.marks import Mark, reach
from trio_pb.core.messages import Envelope, StartViewChange, Status, ViewChangeReason
from trio_pb.core.peers import Peers
from trio_pb.core.state import VIEW_MODULUS, State, primary_of
from trio_pb.core.timeout import Timeout

__all__ = ["Wishes", "next_view_of"]


def next_view_of(view: int, replica: int) -> int:
    """The least view above `view` that `replica` leads."""
    return view + 1 + (replica - view - 1) % VIEW_MODULUS


class Wishes:
    """Our own wish and those we heard."""

    def __init__(self, state: State, peers: Peers) -> None:
        self.state = state
        self._peers = peers
        self.target: int | None = None  # The view that we wish for.
        self.reason = ViewChangeReason.PRIMARY_SILENT
        self._is_fixed = False  # The primary itself named the target.
        self._is_sanctioned = False  # We name the target to the backups of our own view.
        self._heard: dict[int, tuple[int, int]] = {}  # Voter -> (target, tick heard).
        self.resend_timeout = Timeout("wish")

    def wish(self, reason: ViewChangeReason, *, target: int | None = None, sanctioned: bool = False) -> None:
        """Begin to wish, or change the wish; said at once and every T_SVC."""
        if not self.state.is_voter(self.state.replica) or self.state.status is Status.AMNESIAC:
            return
        self.reason = reason
        self._is_fixed = target is not None
        self._is_sanctioned = sanctioned
        self.target = target if target is not None else self._choose()
        self._say()

    def withdraw(self) -> None:
        """We follow a primary again, or moved on."""
        self.target = None
        self._is_fixed = False
        self.resend_timeout.stop()

    def forget(self) -> None:
        """A new view: old wishes do not carry over."""
        self.withdraw()
        view = self.state.view
        self._heard = {replica: heard for replica, heard in self._heard.items() if heard[0] > view}

    def on_resend_timeout(self) -> None:
        """T_SVC: say it again; who is eligible may have changed."""
        if self.target is not None and not self._is_fixed:
            self.target = self._choose()
        self._say()

    def on_start_view_change(self, envelope: Envelope, message: StartViewChange) -> None:
        """Hear a wish. One sanctioned by our own primary becomes ours at once."""
        if not self.state.is_voter(envelope.replica):
            return
        self._heard[envelope.replica] = (message.target, self.state.now_tick)
        state = self.state
        is_from_our_primary = envelope.view == state.view and envelope.replica == primary_of(state.view)
        if message.sanctioned and is_from_our_primary and state.status is Status.NORMAL and message.target > state.view:
            reach(Mark.WISH_SANCTIONED)
            self.wish(ViewChangeReason.SANCTIONED, target=message.target)

    def entry(self) -> int | None:
        """R-ENTER: the largest view that a view change quorum wishes for or beyond, if above ours."""
        state = self.state
        quorum = state.quorums.view_change
        if len(self._heard) + (self.target is not None) < quorum:
            return None  # As in nearly every step.
        oldest = state.now_tick - state.timeouts.wish_life_ticks
        targets = [
            target
            for replica, (target, tick) in self._heard.items()
            if tick >= oldest and replica != state.replica and state.is_voter(replica)
        ]
        if self.target is not None and state.is_voter(state.replica):
            targets.append(self.target)
        if len(targets) < quorum:
            return None
        reached = sorted(targets, reverse=True)[quorum - 1]
        return reached if reached > state.view else None

    def _choose(self) -> int:
        """R-TARGET: the next view whose primary is eligible, else simply the next one."""
        state = self.state
        eligible = self._peers.eligible()
        if not eligible:
            reach(Mark.NOBODY_ELIGIBLE)
            last = primary_of(state.view)
            voters = state.configuration.voters
            eligible = [replica for replica in voters if replica != last] or list(voters)
        return min(next_view_of(state.view, replica) for replica in eligible)

    def _say(self) -> None:
        if self.target is None:
            return
        self.resend_timeout.start(self.state.now_tick, self.state.timeouts.wish_ticks)
        message = StartViewChange(self.target, self.reason, self._is_sanctioned)
        self.state.send(self.state.voters_but_self, message)
