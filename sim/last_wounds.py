"""What befalls a cluster that is whole and at rest: decay that only scrubbing can find, and a restart (PROTOCOL 7.5).

What rots amid work is mostly written again before anybody looks, superblock and proofs above all; and what a restart
leaves undone the next op does. Here nobody asks for anything, so what is not healed stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.disk import SECTOR_SIZE
from sim.disk_faults import LOG, PACKS, Decay, DiskFaults
from trio_pb.storage.disk import run
from trio_pb.storage.inspect import Located, Survey, survey
from trio_pb.storage.proofs import PROOFS_FILE
from trio_pb.storage.superblock import SUPERBLOCK_FILE

__all__ = ["LAST_RESTARTS", "LAST_WOUNDS", "LastWounds"]

MS = 1000  # Microseconds.
ZONES = (LOG, PACKS, PROOFS_FILE, SUPERBLOCK_FILE)
SHARE = 0.75  # Of the disks that decay: something rots.
AIMED_SHARE = 0.4  # Likewise: the newest proof loses a copy; a record lands on another.
LAST_WOUNDS = ("lone proof", "stray record")  # As counted.
LAST_RESTARTS = ("last restart",)


class LastWounds:
    """Damages what may be damaged once more, and restarts somebody, after all faults have ended."""

    def __init__(self, cluster: SimCluster, note: Callable[[str], None], disks: DiskFaults) -> None:
        """`note(kind)` takes what happened."""
        self._cluster = cluster
        self._choices: Choices = cluster.choices
        self._note = note
        self._disks = disks

    def inflict(self) -> None:
        """Do all of it now."""
        for index, decay in enumerate(self._disks.decays):
            if decay.replica.is_up:
                self._damage(index, decay)
        for index in range(self._cluster.shape.faults.last_restarts):
            key: Key = ("last restart", index)
            if self._choices.flag(key, 1.0):
                self._restart(key)

    def _damage(self, index: int, decay: Decay) -> None:
        choices = self._choices
        key: Key = ("last wound", index)
        if choices.flag(key, SHARE):
            zone = ZONES[choices.number((*key, "zone"), 0, len(ZONES) - 1, 0)]
            self._disks.strike(key, decay, zone, "rot", self._disks.rotting(key))
        lone, stray = (
            choices.flag(("lone proof", index), AIMED_SHARE),
            choices.flag(("stray record", index), AIMED_SHARE),
        )
        found = run(decay.disk.remains(), survey()) if lone or stray else None
        if found is not None and lone:
            self._leave_one_proof(decay, found)
        if found is not None and stray:
            self._misplace(("stray record", index), decay, found)

    def _leave_one_proof(self, decay: Decay, found: Survey) -> None:
        """One copy of the newest proof rots: the other is all that is left of the promise."""
        for copy in found.proofs:
            if copy.proof is not None and copy.proof == found.proof and decay.covers(PROOFS_FILE, copy.offset):
                decay.mark(PROOFS_FILE)
                self._note("lone proof")
                decay.disk.rot(PROOFS_FILE, copy.offset // SECTOR_SIZE)

    def _misplace(self, key: Key, decay: Decay, found: Survey) -> None:
        """A record that the log still needs is written over by another one, whole and of the same disk (T-17)."""
        records = sorted(found.records.values(), key=lambda it: (it.file, it.offset))
        needed = [it for it in records if _is_needed(found, it)]
        if not needed:
            return
        place = needed[self._choices.number((*key, "place"), 0, 4095, 0) % len(needed)]
        others = [it for it in records if it.id != place.id and it.size <= place.size]
        if not others or decay.disk.is_at_stake(place.file, place.offset, place.size):
            return
        other = others[self._choices.number((*key, "record"), 0, 4095, 0) % len(others)]
        decay.mark(LOG)
        self._note("stray record")
        decay.disk.overwrite(place.file, place.offset, decay.disk.contents(other.file, other.offset, other.size))

    def _restart(self, key: Key) -> None:
        """A replica dies and is back at once; the primary as often as another."""
        replicas = [it for it in self._cluster.replicas if it.core is not None]
        primaries: Sequence[int] = [at for at, it in enumerate(replicas) if it.is_primary]
        if not replicas:
            return
        chosen = self._choices.number((*key, "who"), 0, 2 * len(replicas) - 1, 0)
        at = primaries[0] if chosen >= len(replicas) and primaries else chosen % len(replicas)
        self._note("last restart")
        replicas[at].crash(power=self._choices.flag((*key, "power"), 0.5))


def _is_needed(found: Survey, record: Located) -> bool:
    if found.recovered is None:
        return False
    log, header = found.recovered.log, record.header
    return log.base.op < header.op <= log.head and log.checksum(header.op) == header.checksum
