"""INV-35: when nothing decays any more, scrubbing finds and repair heals whatever did, in bounded time.

What a replica believes is asked of its core, what is true of a copy of its disk.
"""

from __future__ import annotations

from collections.abc import Sequence

from sim.oracles.content import demand_content
from sim.oracles.facts import Facts, violate
from sim.replica import SimReplica
from trio_pb.core.messages import Status
from trio_pb.storage.damage import Verdict, find_damage
from trio_pb.storage.disk import run
from trio_pb.storage.inspect import Survey, survey
from trio_pb.storage.superblock import SUPERBLOCK_FILE

__all__ = ["REPAIR_ROUNDS", "Repaired"]

REPAIR_ROUNDS = 2  # Of scrubbing: the first may have passed a place before it decayed.
# Places of these are wounds; others have an intact copy elsewhere, or nobody needs them.
WOUNDS = (Verdict.REPAIR, Verdict.TRANSFER, Verdict.AMNESIA, Verdict.LOST, Verdict.CONTRADICTION)


class Repaired:
    """Whether the damage of a run is gone; asked again and again while time passes."""

    def __init__(self, facts: Facts, replicas: Sequence[SimReplica]) -> None:
        self._facts = facts
        self._replicas = replicas
        self._rounds = {replica.number: _rounds_of(replica) for replica in replicas}
        # Where nothing decayed the first round that finds anything is a violation by itself.
        self._damaged = [replica for replica in replicas if facts.disks[replica.number].is_damaged]
        self._look_after = REPAIR_ROUNDS  # Rounds before the disks are looked at, which costs more than to ask.

    def is_done(self) -> bool:
        """Whether every disk was read again, and everybody believes to be whole."""
        if any(_rounds_of(it) < self._rounds[it.number] + self._look_after for it in self._damaged):
            return False
        if any(wounds_of(replica) for replica in self._replicas):
            return False
        # What is damaged a replica forgets between two rounds, and is told anew: so the disks have the last word.
        if any(self._found_on(replica) for replica in self._damaged):
            self._look_after *= 2
            return False
        return True

    def demand(self) -> None:
        """All is well, and the disks say so too.

        Raises:
            Violation: INV-35.
        """
        for replica in self._replicas:
            for wound in wounds_of(replica):
                violate("INV-35", f"{replica.name}: {wound}, and nothing decayed for long")
        for replica in self._damaged:
            rounds = _rounds_of(replica) - self._rounds[replica.number]
            if rounds < REPAIR_ROUNDS:
                violate("INV-35", f"{replica.name}: scrubbing came round {rounds} times only")
            for wound in self._found_on(replica):
                violate("INV-35", f"{replica.name}: {wound}, and {rounds} rounds of scrubbing did not heal it")

    def _found_on(self, replica: SimReplica) -> list[str]:
        demand_content(replica.disk, self._facts.disks[replica.number])
        return disk_wounds_of(run(replica.disk.remains(), survey()))


def wounds_of(replica: SimReplica) -> list[str]:
    """What a replica knows to be missing or wrong."""
    core = replica.core
    if core is None:
        return ["not running"]
    state, transfer = core.state, vars(core.transfer)
    log = state.log
    told = (
        ("a state that is not to be trusted", state.is_untrusted),
        ("no state", state.is_state_lost),
        (f"not fit to lead ({', '.join(sorted(state.unfit))})", bool(state.unfit)),
        (f"status {state.status.name.lower()}", state.status not in (Status.NORMAL, Status.EX_PRIMARY)),
        (f"entries up to {log.head}, readable up to {log.durable_prefix}", log.durable_prefix < log.head),
        (
            f"entries up to {log.head}, acknowledged up to {core.persistence.ackable()} at most",
            state.status is Status.NORMAL and core.persistence.ackable() < log.head,
        ),
        ("records or a proof not durable yet", core.persistence.oldest_append_tick is not None),
        ("a transfer under way", transfer["_target"] is not None),
        (f"{len(transfer['_damaged'])} chunks damaged", bool(transfer["_damaged"] or transfer["_fetching"])),
        ("chunks not durable yet", bool(transfer["_storing"])),
    )
    return [text for text, is_so in told if is_so]


def disk_wounds_of(found: Survey) -> list[str]:
    """What is damaged in a data directory and should not be, after it was scrubbed."""
    wounds = [
        f"{finding.file} at {finding.offset}: {finding.what} ({finding.verdict})"
        for finding in find_damage(found)
        if finding.verdict in WOUNDS or finding.file == SUPERBLOCK_FILE
    ]
    proof = found.proof
    if proof is None or sum(copy.proof == proof for copy in found.proofs) < 2:
        wounds.append("the newest proof has one copy only")
    return wounds


def _rounds_of(replica: SimReplica) -> int:
    return replica.core.state.counters["scrub_rounds"] if replica.core is not None else 0
