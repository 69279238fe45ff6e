"""Shadow oracles of votes: who offers its log, and how many did when a view begins (6.4, 7.3).

The messages say who; whether it should have is seen at once, not when the vote decides about something.
"""

from __future__ import annotations

from sim.oracles.facts import Facts, violate
from sim.oracles.watch import Oracle
from trio_pb.core.durable import Superblock
from trio_pb.core.messages import DoViewChange, PrepareOk, StartView
from trio_pb.core.ports import Send, Start

__all__ = ["AmnesiacsDoNotVote", "ViewsHaveQuorums"]

FIRST_VIEW = 0  # It begins with the birth of the cluster: nobody votes for it.


class AmnesiacsDoNotVote(Oracle):
    """INV-26: who acknowledged something and finds nothing that says how much has no log to offer (7.3).

    Until it has installed one that the others made.
    """

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._promised: set[int] = set()  # Those who acknowledged anything, ever.
        self._amnesiacs: set[int] = set()

    def on_prepare_ok(self, replica: int, _: Send, __: PrepareOk) -> None:
        """Remember."""
        self._promised.add(replica)

    def on_start(self, replica: int, start: Start) -> None:
        """What a boot finds, it knows."""
        is_bare = start.scan.proof is None or not start.scan.has_log
        if replica in self._promised and is_bare:
            self._amnesiacs.add(replica)
        else:
            self._amnesiacs.discard(replica)

    def on_image_durable(self, replica: int, before: Superblock, after: Superblock) -> None:
        """A log of others binds it to all of itself."""
        if after.install != before.install:
            self._amnesiacs.discard(replica)

    def on_do_view_change(self, replica: int, send: Send, _: DoViewChange) -> None:
        """It does not count."""
        if replica in self._amnesiacs:
            violate(
                "INV-26", f"R{replica} offers its log to view {send.envelope.view}; it lost all proofs, or all records"
            )


class ViewsHaveQuorums(Oracle):
    """INV-13: a view begins once a quorum has offered its logs to it, that of its primary included (6.4)."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._offers: dict[int, set[int]] = {}  # View -> who offered its log.

    def on_do_view_change(self, replica: int, send: Send, _: DoViewChange) -> None:
        """An offer that leaves may arrive."""
        self._offers.setdefault(send.envelope.view, set()).add(replica)

    def on_start_view(self, replica: int, send: Send, _: StartView) -> None:
        """Count."""
        view, needed = send.envelope.view, self.facts.quorums.view_change
        offers = {replica, *self._offers.get(view, ())}
        if view != FIRST_VIEW and len(offers) < needed:
            names = ", ".join(f"R{it}" for it in sorted(offers))
            violate("INV-13", f"R{replica} starts view {view} with the logs of {names} only, where {needed} are needed")
