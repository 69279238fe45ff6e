"""Repair traffic: nobody asks for what it keeps already, nor one peer only for what it lacks (PROTOCOL 8.1)."""

from __future__ import annotations

import attrs

from sim.oracles.facts import Facts, violate
from sim.oracles.watch import Oracle
from trio_pb.core.messages import GetPrepares, PrepareCopy, Status
from trio_pb.core.ports import Send, Start
from trio_pb.core.replica import Replica
from trio_pb.core.state import State

__all__ = ["COPIES_MAX", "TURNS_MAX", "AsksAround", "NoCopyStorm"]

# How often one prepare may go over one link as a copy while both ends live. A copy answers a request, and
# a request that is not answered is repeated after twice the time each, in the end every 160 ticks: 32 of
# them in a row without an answer take 45 seconds, longer than any run has faults (30). An answer of the same
# peer about another op makes the next wait short again, but then messages pass on this link, and all 31
# copies before the last would have to be the ones that are lost. Healthy runs show a handful. A replica that asks
# for what it keeps does so every round trip, which is some milliseconds, until the gap below is closed.
COPIES_MAX = 32


_NORMAL = Status.NORMAL


class NoCopyStorm(Oracle):
    """How often does a prepare travel from one boot of a replica to one boot of another."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._copies: dict[tuple[int, int], dict[bytes, int]] = {}  # (sender, receiver) -> prepare -> copies.

    def on_start(self, replica: int, _: Start) -> None:
        """What an earlier boot asked for, or was asked for, does not count."""
        self._copies = {link: copies for link, copies in self._copies.items() if replica not in link}

    def on_prepare_copy(self, replica: int, send: Send, message: PrepareCopy) -> None:
        """Count a copy to each that it goes to."""
        prepare = message.prepare
        for receiver in send.replicas:
            if self.facts.disks[receiver].forgets:
                continue  # It fetches, writes, finds lost, and fetches again.
            copies = self._copies.setdefault((replica, receiver), {})
            count = copies[prepare.checksum] = copies.get(prepare.checksum, 0) + 1
            if count > COPIES_MAX:
                violate("copy storm", f"R{replica} sends op {prepare.op} to R{receiver} for the {count}th time")


# Requests in a row for one op that may go to one of several peers, and stay without an answer.
TURNS_MAX = 3


@attrs.define(eq=False)
class _Streak:
    """Whom a replica asked for one op last, and how often in a row."""

    peer: int
    asked: int = 0


class AsksAround(Oracle):
    """8.1: what one living peer does not give is asked of the next; the first may lack it as well.

    Judged by the first op of a request, which decides whom it goes to.
    """

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._floors: dict[int, int] = {}  # Replica -> op up to which anybody may be asked; -1: nobody in particular.
        self._sources: dict[int, tuple[int, ...]] = {}  # Replica -> living peers, as seen last.
        self._streaks: dict[int, dict[int, _Streak]] = {}  # Replica -> op -> whom it asks.

    def on_start(self, replica: int, _: Start) -> None:
        """A new process begins with nobody."""
        self._streaks.pop(replica, None)
        self._sources.pop(replica, None)

    def on_step(self, replica: int, state: State) -> None:
        """A log that a new primary repairs has sources of its own."""
        self._floors[replica] = state.commit_max if state.status is _NORMAL else -1

    def on_core(self, replica: int, core: Replica) -> None:
        """Look whom it could ask."""
        sources = tuple(sorted(core.peers.sources()))
        if sources != self._sources.get(replica):
            self._sources[replica] = sources
            self._streaks.pop(replica, None)

    def on_prepare_copy(self, _: int, send: Send, message: PrepareCopy) -> None:
        """An answer, whether it arrives or not."""
        for receiver in send.replicas:
            if receiver in self._streaks:
                self._streaks[receiver].pop(message.prepare.op, None)

    def on_get_prepares(self, replica: int, send: Send, message: GetPrepares) -> None:
        """Count those that anybody could answer."""
        floor = self._floors[replica]
        if len(self._sources.get(replica, ())) < 2:
            return
        if not all(checksum is not None and op <= floor for op, checksum in message.wanted):
            return
        (op, _), peer = message.wanted[0], send.replicas[0]
        streaks = self._streaks.setdefault(replica, {})
        streak = streaks.get(op)
        if streak is None or streak.peer != peer:
            streak = streaks[op] = _Streak(peer)
        streak.asked += 1
        if streak.asked > TURNS_MAX:
            others = ", ".join(f"R{it}" for it in self._sources[replica] if it != peer)
            violate("turns", f"R{replica} asks R{peer} for op {op} {streak.asked} times in a row, and not {others}")
