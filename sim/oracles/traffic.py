"""Repair traffic: nobody asks again and again for what it keeps already (PROTOCOL 8.1)."""

from __future__ import annotations

from sim.oracles.facts import Facts, violate
from sim.oracles.watch import Oracle
from trio_pb.core.messages import PrepareCopy
from trio_pb.core.ports import Send, Start

__all__ = ["COPIES_MAX", "NoCopyStorm"]

# How often one prepare may go over one link as a copy while both ends live. A copy answers a request, and
# a request that is not answered is repeated after twice the time each, in the end every 160 ticks: 32 of
# them in a row without an answer take 45 seconds, longer than any run has faults (30). An answer of the same
# peer about another op makes the next wait short again, but then messages pass on this link, and all 31
# copies before the last would have to be the ones that are lost. Healthy runs show a handful. A replica that asks
# for what it keeps does so every round trip, which is some milliseconds, until the gap below is closed.
COPIES_MAX = 32


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
