"""Beyond the fault model: damage that no quorum makes good, flushes that never were, wiped majorities.

The planner of `disk_faults` keeps an intact copy of everything, so that a cluster owes its clients answers.
Here nothing is kept. What is owed then is honesty: an answer that is right, or none; a replica that waits, or
one that stops and says why (PROTOCOL G6). `sim.oracles.testimony` tells what can be demanded of which run.
"""

from __future__ import annotations

from sim.choices import Key
from sim.disk import SECTOR_SIZE
from sim.fault_family import FaultFamily, Planned
from sim.replica import SimReplica
from trio_pb.storage.identity import IDENTITY_FILE
from trio_pb.storage.journal import LOG_FOLDER
from trio_pb.storage.packs import CHECKPOINT_FOLDER
from trio_pb.storage.proofs import COPIES, COPY_DISTANCE, COPY_SIZE, PROOFS_FILE, SLOTS
from trio_pb.storage.superblock import SUPERBLOCK_FILE

__all__ = ["RUINS", "Beyond"]

RUINS = (
    *("ruined superblock", "ruined proofs", "ruined proof", "ruined log", "ruined checkpoints", "ruined identity"),
    *("forgotten flush", "betrayal"),
)
MS = 1000  # Microseconds.
FLUSHES = (1, 4, 16, 1 << 30)  # That a disk forgets in a row.


class Beyond(FaultFamily):
    """Ruins all copies of something, and lets flushes be forgotten; marks whatever disk it touches."""

    def plan(self) -> Planned:
        """What is to happen: name, how often, and how."""
        plan = self._cluster.shape.faults
        return (
            ("ruin", plan.disks.ruins, self._ruin),
            ("forget", plan.disks.forgotten_flushes, self._forget),
            ("betray", plan.disks.betrayals, self._betray),
        )

    def heal(self) -> None:
        """Disks flush again when told to; what is ruined stays so."""
        for replica in self._cluster.replicas:
            replica.disk.flushes_to_forget = 0

    def _ruin(self, index: int) -> None:
        """Every copy of one thing becomes unreadable, at one replica, at most of them, or everywhere."""
        if self._is_over():
            return
        key: Key = ("ruin", index)
        kind = self._choices.number((*key, "kind"), 0, 5, 0)
        at_once = self._choices.flag((*key, "power"), 0.5)
        for replica in self._some(key):
            self.mark(replica)
            self._note(RUINS[kind])
            self._ruin_at((*key, replica.number), kind, replica)
            # Damage shows when it is read; a running replica reads little of what it has.
            if replica.is_up and self._choices.flag((*key, "restart", replica.number), 0.7):
                replica.crash(power=at_once)

    def _ruin_at(self, key: Key, kind: int, replica: SimReplica) -> None:
        disk = replica.disk
        if kind == 2:  # Both copies of one proof of four: the newest, or one that nobody needs.
            slot = self._choices.number((*key, "slot"), 0, SLOTS - 1, 0)
            for copy in range(COPIES if disk.files(PROOFS_FILE) else 0):
                start = copy * COPY_DISTANCE + slot * COPY_SIZE
                for sector in range(start // SECTOR_SIZE, (start + COPY_SIZE) // SECTOR_SIZE):
                    disk.rot(PROOFS_FILE, sector)
            return
        places = (SUPERBLOCK_FILE, PROOFS_FILE, "", f"{LOG_FOLDER}/", f"{CHECKPOINT_FOLDER}/", IDENTITY_FILE)
        is_lost = self._choices.flag((*key, "files lost"), 0.3)
        for file in disk.files(places[kind]):
            if is_lost:
                disk.lose_file(file)
                continue
            for sector in disk.sectors_in_use(file):
                disk.rot(file, sector)

    def _forget(self, index: int) -> None:
        """The next flushes of a disk, or of most, or of all, are reported and not made: a cache without a battery."""
        if self._is_over():
            return
        key: Key = ("forget", index)
        count = FLUSHES[self._choices.number((*key, "count"), 0, len(FLUSHES) - 1, 0)]
        self._note("forgotten flush")
        for replica in self._some(key):
            self._let_forget(replica, count)

    def _let_forget(self, replica: SimReplica, count: int) -> None:
        self.mark(replica)
        self._cluster.facts.disks[replica.number].forgets = True
        replica.disk.flushes_to_forget = count

    def _betray(self, index: int) -> None:
        """Whoever leads commits with a bare quorum whose disks forget, and is cut off when their power fails.

        With the others, who know nothing, they can begin a view in which all that is as if it had never been.
        """
        key: Key = ("betray", index)
        leading = [replica for replica in self._cluster.replicas if replica.is_primary]
        others = [replica for replica in self._cluster.replicas if replica not in leading[:1]]
        if self._is_over() or not leading or len(others) < 2:
            return
        turn = self._choices.number((*key, "turn"), 0, len(others) - 1, 0)
        others = others[turn:] + others[:turn]
        needed = self._cluster.facts.quorums.replication - 1
        traitors, rest = others[:needed], others[needed:]
        self._note("betrayal")
        for replica in traitors:
            self._let_forget(replica, FLUSHES[-1])
        in_the_know = [leading[0].number, *[replica.number for replica in traitors]]
        self._cluster.network.block(in_the_know, [replica.number for replica in rest])
        delay = self._choices.latency((*key, "commits"), 10 * MS, 100 * MS)
        self._cluster.scheduler.after(delay, self._turn_away, key, leading[0], traitors, rest)

    def _turn_away(self, key: Key, old: SimReplica, traitors: list[SimReplica], rest: list[SimReplica]) -> None:
        if self._is_over():
            return
        others = [replica.number for replica in traitors + rest]
        self._cluster.network.unblock([replica.number for replica in traitors], others)
        self._cluster.network.block([old.number], others)
        for replica in traitors:
            replica.disk.flushes_to_forget = 0
            if self._choices.flag((*key, "all lost", replica.number), 0.7):
                replica.disk.lose_unflushed()
            replica.crash(power=True)
        delay = self._choices.latency((*key, "alone"), 500 * MS, self._cluster.shape.faults.partition_mean)
        self._cluster.scheduler.after(delay, self._let_back, old, others)

    def _let_back(self, old: SimReplica, others: list[int]) -> None:
        if not self._is_over():
            self._cluster.network.unblock([old.number], others)

    def _some(self, key: Key) -> list[SimReplica]:
        """One replica, a majority, or all."""
        replicas = self._cluster.replicas
        count = (1, 1, len(replicas) // 2 + 1, len(replicas))[self._choices.number((*key, "how many"), 0, 3, 0)]
        first = self._choices.number((*key, "who"), 0, len(replicas) - 1, 0)
        return [replicas[(first + offset) % len(replicas)] for offset in range(count)]

    def mark(self, replica: SimReplica) -> None:
        """From now on this disk counts as damaged, in every way."""
        facts = self._cluster.facts.disks[replica.number]
        facts.is_damaged = facts.may_be_lost = facts.may_forget = True
        self._cluster.facts.is_beyond = True
