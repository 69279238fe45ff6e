"""Repair traffic: nobody asks for what it keeps already, nor one peer only for what it lacks (PROTOCOL 8.1)."""

from __future__ import annotations

import attrs

from sim.oracles.facts import Facts, violate
from sim.oracles.watch import Oracle
from trio_pb.core.messages import GetIds, GetPrepares, PrepareCopy, Status
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


# Requests in a row that may go to one of several peers. Turns are taken, so two in a row would already be one too many
# if everybody saw the same: but who is alive, and in which order they are taken, changes between two looks.
TURNS_MAX = 8


@attrs.define(eq=False)
class _Streak:
    """What a replica asked of one peer without asking another."""

    peer: int = -1
    asked: int = 0
    looks: int = 0  # At the peers that it knows to be alive, since the first of these requests.


class AsksAround(Oracle):
    """8.1: what is committed is asked of one living peer after the other; the first may lack it as well."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._floors: dict[int, int] = {}  # Replica -> op up to which anybody may be asked; -1: nobody in particular.
        self._sources: dict[int, tuple[int, ...]] = {}  # Replica -> living peers, as seen last.
        self._streaks: dict[int, _Streak] = {}

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
        elif replica in self._streaks:
            self._streaks[replica].looks += 1

    def on_get_prepares(self, replica: int, send: Send, message: GetPrepares) -> None:
        """Count those that anybody could answer."""
        floor = self._floors[replica]
        if all(checksum is not None and op <= floor for op, checksum in message.wanted):
            self._count(replica, send.replicas[0])

    def on_get_ids(self, replica: int, _: Send, __: GetIds) -> None:
        """Not everybody can answer that, and it takes a turn."""
        self._streaks.pop(replica, None)

    def _count(self, replica: int, peer: int) -> None:
        if len(self._sources.get(replica, ())) < 2:
            return
        streak = self._streaks.setdefault(replica, _Streak())
        if streak.peer != peer:
            streak.peer, streak.asked, streak.looks = peer, 0, 0
        streak.asked += 1
        if streak.asked > TURNS_MAX and streak.looks >= 2:
            others = ", ".join(f"R{it}" for it in self._sources[replica] if it != peer)
            violate(
                "turns", f"R{replica} asks R{peer} for what it lacks {streak.asked} times in a row, and never {others}"
            )
