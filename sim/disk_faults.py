"""Disks that decay, fail, fill up or stall, within what the protocol promises to survive (PROTOCOL 1, 7.4, 7.5).

Two families. *Decay* changes what was flushed: rot, sectors that cannot be read, writes that go astray or
nowhere, lost files. It is kept to a minority of the replicas, so that whatever committed keeps an intact
copy on one that does not decay, and at each of them to one copy of the proofs, or the whole file, and to
one copy of the superblock: both copies of the newest proof and the record itself would defeat a replica's
testimony (7.4). *Failure* changes nothing that was flushed, and befalls anybody: an input/output error,
after which the replica must stop; a full disk; one that stalls or is slow.

Where a run goes beyond the model (`FaultPlan.is_beyond`) everybody's disk may decay, and no copy is spared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.disk import ALWAYS, SECTOR_SIZE, FakeDisk, Place
from sim.replica import SimReplica
from trio_pb.storage import proofs, superblock
from trio_pb.storage.disk import Write, run
from trio_pb.storage.inspect import survey
from trio_pb.storage.journal import LOG_FOLDER, SPARE_FILE
from trio_pb.storage.packs import CHECKPOINT_FOLDER
from trio_pb.storage.page import PAGE_HEAD_SIZE
from trio_pb.storage.proofs import PROOFS_FILE
from trio_pb.storage.superblock import SUPERBLOCK_FILE

__all__ = ["DISK_FAULTS", "LOG", "PACKS", "Decay", "DiskFaults", "rot"]

MS = 1000  # Microseconds.
PATIENCE = 5 * MS  # Between two looks for a primary.
PAGE = 4096  # Writes of the journal begin on these.
LOG, PACKS = f"{LOG_FOLDER}/", f"{CHECKPOINT_FOLDER}/"
# Where decay strikes; a place that is named twice is struck twice as often.
ZONES = (LOG, LOG, LOG, LOG, PACKS, PACKS, PROOFS_FILE, SUPERBLOCK_FILE)
BIT_ROT_SHARE = 0.5
# What a sweep must have seen, as counted.
DISK_FAULTS = (
    *("rot", "unreadable sectors", "misdirected write", "lost write", "short write", "stale reads", "lost file"),
    *("old superblock copy", "bit flip"),
    *("input/output error", "full disk", "no room for checkpoints", "stalled disk", "slow disk", "dead disk"),
)


@attrs.frozen
class Decay:
    """What may decay at one replica in one run, so that it never betrays what it promised (7.4)."""

    replica: SimReplica
    proof_copy: int  # Of every proof, this copy only.
    superblock_copy: int
    is_beyond: bool = False  # Whatever there is.

    def covers(self, file: str, offset: int) -> bool:
        """Whether a place may be damaged."""
        if self.is_beyond:
            return True
        if file == PROOFS_FILE:
            return offset // proofs.COPY_DISTANCE == self.proof_copy
        if file == SUPERBLOCK_FILE:
            return offset // superblock.COPY_SIZE == self.superblock_copy
        return file.startswith((LOG, PACKS)) and file != SPARE_FILE

    @property
    def disk(self) -> FakeDisk:
        """Its disk."""
        return self.replica.disk

    def sectors(self, zone: str, pick: int) -> tuple[str, list[int]]:
        """A file of `zone` and the sectors of it that hold something and may be damaged; none if it is empty."""
        files = [file for file in self.disk.files(zone) if file != SPARE_FILE]
        if not files:
            return "", []
        file = files[pick % len(files)]
        return file, [it for it in self.disk.sectors_in_use(file) if self.covers(file, it * SECTOR_SIZE)]

    def mark(self, zone: str, *, may_forget: bool = False) -> None:
        """From now on this disk counts as damaged."""
        known = self.replica.world.watch.facts
        known.is_beyond |= self.is_beyond
        facts = known.disks[self.replica.number]
        facts.is_damaged = True
        facts.may_be_lost |= zone == SUPERBLOCK_FILE or self.is_beyond
        facts.may_forget |= may_forget or self.is_beyond


Damage: TypeAlias = Callable[[Decay, str, int], None]  # Takes a file and a sector of it.


class DiskFaults:
    """Makes the disks of a run fail as its plan says."""

    def __init__(self, cluster: SimCluster, note: Callable[[str], None], is_over: Callable[[], bool]) -> None:
        """`note(kind)` takes what happened; nothing happens any more once `is_over()`."""
        self._cluster = cluster
        self._choices: Choices = cluster.choices
        self._note = note
        self._is_over = is_over
        count = len(cluster.replicas)
        first = self._choices.number(("decay", "first"), 0, count - 1, 0)
        most = count if cluster.shape.faults.is_beyond else (count - 1) // 2
        decaying = min(cluster.shape.faults.disks.decaying, most)
        self.decays = [self._decay(cluster.replicas[(first + index) % count]) for index in range(decaying)]

    def plan(self) -> tuple[tuple[str, int, Callable[[int], None]], ...]:
        """What is to happen: name, how often, and how."""
        plan = self._cluster.shape.faults.disks
        decay = (
            ("rot", plan.rots, self._rot),
            ("unreadable", plan.unreadable, self._fail_reads),
            ("misdirect", plan.misdirected, self._misdirect),
            ("lose write", plan.lost_writes, self._lose_write),
            ("short write", plan.short_writes, self._cut_short),
            ("stale", plan.stale_reads, self._outdate),
            ("lose file", plan.lost_files, self._lose_file),
            ("old copy", plan.old_copies, self._go_back),
            ("bit flip", plan.bit_flips, self._flip_bit),
        )
        failure = (
            ("io error", plan.io_errors, self._fail),
            ("fill", plan.full_disks, self._fill),
            ("stall", plan.stalls, self._stall),
            ("dead disk", plan.dead_disks, self._die),
        )
        return (*decay, *failure) if self.decays else failure

    def expendable(self, index: int) -> SimReplica:
        """Somebody whose whole disk may be lost: with those that decay, still a minority."""
        replicas = self._cluster.replicas
        key: Key = ("expendable", index) if index else ("expendable",)
        chosen = self._choices.number(key, 0, len(replicas) - 1, 0)
        return self.decays[chosen % len(self.decays)].replica if self.decays else replicas[chosen]

    def heal(self) -> None:
        """Nothing fails any more; what decayed stays so until it is written again."""
        for replica in self._cluster.replicas:
            disk = replica.disk
            disk.divert = disk.outdate = disk.fail_after = None
            disk.is_full, disk.full_folder = False, ""
            replica.stalled_until, replica.slowness = 0, 1

    def _decay(self, replica: SimReplica) -> Decay:
        key: Key = ("decay", replica.number)
        proof_copy = self._choices.number((*key, "proof copy"), 0, proofs.COPIES - 1, 0)
        superblock_copy = self._choices.number((*key, "superblock copy"), 0, superblock.COPIES - 1, 0)
        return Decay(replica, proof_copy, superblock_copy, self._cluster.shape.faults.is_beyond)

    def _victim(self, key: Key) -> Decay:
        return self.decays[self._choices.number((*key, "who"), 0, len(self.decays) - 1, 0)]

    def _zone(self, key: Key) -> str:
        return ZONES[self._choices.number((*key, "zone"), 0, len(ZONES) - 1, 0)]

    # --- Decay ------------------------------------------------------------------------------------

    def _rot(self, index: int) -> None:
        """Neighbouring sectors change by themselves, all of them or one bit of each."""
        key: Key = ("rot", index)
        self._damage_sectors(key, "rot", self.rotting(key))

    def _fail_reads(self, index: int) -> None:
        """Neighbouring sectors cannot be read: for a few times, or until they are written again."""
        key: Key = ("unreadable", index)
        reads = (ALWAYS, 1, 2)[self._choices.number((*key, "reads"), 0, 2, 0)]
        self._damage_sectors(
            key, "unreadable sectors", lambda decay, file, sector: decay.disk.make_unreadable(file, sector, reads)
        )

    def _damage_sectors(self, key: Key, kind: str, damage: Damage) -> None:
        if self._is_over():
            return
        decay = self._victim(key)
        if self.strike(key, decay, self._zone(key), kind, damage):
            self._perhaps_restart(decay, key)

    def rotting(self, key: Key) -> Damage:
        """Of a whole sector a reader finds nothing that it knows; of a bit, a checksum alone tells."""
        if not self._choices.flag((*key, "bit rot"), BIT_ROT_SHARE):
            return rot
        bits = self._choices.number((*key, "bit"), 0, SECTOR_SIZE * 8 - 1, 0)
        return lambda decay, file, sector: decay.disk.flip(file, sector, bits)

    def strike(self, key: Key, decay: Decay, zone: str, kind: str, damage: Damage) -> bool:
        """Damage neighbouring sectors of a file of `zone`; return whether it holds anything."""
        choices = self._choices
        file, sectors = decay.sectors(zone, choices.number((*key, "file"), 0, 255, 0))
        if not sectors:
            return False
        first = choices.number((*key, "sector"), 0, 4095, 0) % len(sectors)
        count = (1, 1, 4, 32)[choices.number((*key, "count"), 0, 3, 0)]
        decay.mark(zone)
        self._note(kind)
        for sector in sectors[first : first + count]:
            damage(decay, file, sector)
        return True

    def _perhaps_restart(self, decay: Decay, key: Key) -> None:
        """A restart reads everything: damage that nobody reads is harmless until scrubbing heals it."""
        if decay.replica.is_up and self._choices.flag((*key, "restart"), 0.5):
            decay.replica.crash(power=self._choices.flag((*key, "power"), 0.5))

    def _misdirect(self, index: int) -> None:
        """The next write to some file ends up elsewhere in it, or in a sibling; its own place keeps the old bytes."""
        key: Key = ("misdirect", index)

        def where(decay: Decay, step: Write) -> Place:
            pick = self._choices.number((*key, "file"), 0, 255, 0)
            page = self._choices.number((*key, "page"), 0, 255, 0)
            if step.file in (PROOFS_FILE, SUPERBLOCK_FILE):
                slot = step.offset + (1 + page % (proofs.SLOTS - 1)) * proofs.COPY_SIZE
                low = decay.proof_copy * proofs.COPY_DISTANCE
                is_proof = step.file == PROOFS_FILE
                return Place(step.file, low + (slot - low) % (proofs.SLOTS * proofs.COPY_SIZE)) if is_proof else NOWHERE
            files = decay.disk.files(LOG if step.file.startswith(LOG) else PACKS)
            file = files[pick % len(files)] if files else step.file
            pages = max(decay.disk.size_of(file) // PAGE, 1)
            offset = page % pages * PAGE
            return NOWHERE if (file, offset) == (step.file, step.offset) else Place(file, offset)

        self._divert(key, "misdirected write", where)

    def _lose_write(self, index: int) -> None:
        """The next write to some file is acknowledged, flushed, and never on the medium."""
        self._divert(("lose write", index), "lost write", lambda _decay, _step: NOWHERE)

    def _cut_short(self, index: int) -> None:
        """The next write to some file is acknowledged and flushed, and only its beginning is on the medium."""
        key: Key = ("short write", index)

        def where(_: Decay, step: Write) -> Place:
            sectors = max(len(step.data) // SECTOR_SIZE, 1)
            kept = self._choices.number((*key, "sectors"), 0, 63, 0) % sectors
            return Place(None, 0, kept * SECTOR_SIZE)

        self._divert(key, "short write", where)

    def _outdate(self, index: int) -> None:
        """What the next write to some file replaces is read once or twice more, or until the next write there."""
        if self._is_over():
            return
        key: Key = ("stale", index)
        decay, zone = self._victim(key), self._zone(key)
        disk = decay.disk
        skipped = self._choices.number((*key, "skipped"), 0, 7, 0)
        reads = (1, 2, ALWAYS)[self._choices.number((*key, "reads"), 0, 2, 0)]

        def outdate(step: Write) -> int:
            nonlocal skipped
            if not step.file.startswith(zone) or not decay.covers(step.file, step.offset):
                return 0
            if skipped:
                skipped -= 1
                return 0
            disk.outdate = None
            decay.mark(zone)
            self._note("stale reads")
            # Little is read while it runs; a restart reads everything.
            self._cluster.scheduler.after(self._choices.latency((*key, "soon"), 1, 20 * MS), self._read_all, key, decay)
            return reads

        disk.outdate = outdate

    def _read_all(self, key: Key, decay: Decay) -> None:
        if not self._is_over():
            self._perhaps_restart(decay, key)

    def _divert(self, key: Key, kind: str, where: Callable[[Decay, Write], Place]) -> None:
        if self._is_over():
            return
        decay, zone = self._victim(key), self._zone(key)
        disk = decay.disk
        skipped = self._choices.number((*key, "skipped"), 0, 7, 0)

        def divert(step: Write) -> Place | None:
            nonlocal skipped
            if not step.file.startswith(zone) or not decay.covers(step.file, step.offset):
                return None
            if skipped:
                skipped -= 1
                return None
            disk.divert = None
            decay.mark(zone)
            self._note(kind)
            return where(decay, step)

        disk.divert = divert

    def _lose_file(self, index: int) -> None:
        """A file vanishes: the proofs, a segment or all of the log, a pack or all of them."""
        if self._is_over():
            return
        key: Key = ("lose file", index)
        decay = self._victim(key)
        disk = decay.disk
        kind = self._choices.number((*key, "kind"), 0, 4, 0)
        files = disk.files((PROOFS_FILE, LOG, LOG, PACKS, PACKS)[kind])
        if not files:
            return
        if kind in (2, 3):
            files = [files[self._choices.number((*key, "file"), 0, 255, 0) % len(files)]]
        # Of the log, a single file may have been the last one.
        decay.mark(files[0], may_forget=kind in (0, 1, 2))
        self._note("lost file")
        for file in files:
            disk.lose_file(file)
        self._perhaps_restart(decay, key)

    def _go_back(self, index: int) -> None:
        """One copy of the superblock goes back to what stood there a while ago: valid, and old (2.3)."""
        if self._is_over():
            return
        key: Key = ("old copy", index)
        decay = self._victim(key)
        place = decay.superblock_copy * superblock.COPY_SIZE
        old = decay.disk.contents(SUPERBLOCK_FILE, place, superblock.COPY_SIZE)
        later = self._choices.latency((*key, "later"), 50 * MS, self._cluster.shape.faults.disks.stall_mean)
        self._cluster.scheduler.after(later, self._put_back, key, decay, decay.disk, old)

    def _put_back(self, key: Key, decay: Decay, disk: FakeDisk, old: bytes) -> None:
        place = decay.superblock_copy * superblock.COPY_SIZE
        now = disk.contents(SUPERBLOCK_FILE, place, superblock.COPY_SIZE)
        if self._is_over() or disk is not decay.disk or now == old or not (old and now):
            return
        decay.mark(SUPERBLOCK_FILE)
        self._note("old superblock copy")
        disk.overwrite(SUPERBLOCK_FILE, place, old)
        self._perhaps_restart(decay, key)

    def _flip_bit(self, index: int) -> None:
        """One bit of a page changes, mostly of the newest proof: all that it says still looks right (T-13)."""
        if self._is_over():
            return
        key: Key = ("bit flip", index)
        decay = self._victim(key)
        zone = PROOFS_FILE if self._choices.flag((*key, "proof"), 0.7) else self._zone(key)
        file, sectors = decay.sectors(zone, self._choices.number((*key, "file"), 0, 255, 0))
        if not sectors:
            return
        place = sectors[self._choices.number((*key, "sector"), 0, 4095, 0) % len(sectors)] * SECTOR_SIZE
        held = decay.disk.contents(file, place, SECTOR_SIZE).rstrip(b"\0")
        if zone == PROOFS_FILE:
            # One written long ago is read by nobody.
            found = run(decay.disk.remains(), survey())
            newest = [it.offset for it in found.proofs if it.proof is not None and it.proof == found.proof]
            place = next((it for it in newest if decay.covers(file, it)), place)
            held = decay.disk.contents(file, place, proofs.COPY_SIZE).rstrip(b"\0")
        # Behind the head, whose every field is compared.
        at = PAGE_HEAD_SIZE if len(held) > PAGE_HEAD_SIZE else 0
        at += self._choices.number((*key, "byte"), 0, 4095, 0) % max(len(held) - at, 1)
        bit = 1 << self._choices.number((*key, "bit"), 0, 7, 0)
        decay.mark(zone)
        self._note("bit flip")
        decay.disk.overwrite(file, place + at, bytes([held[at] ^ bit]))
        self._perhaps_restart(decay, key)

    # --- Failure ----------------------------------------------------------------------------------

    def _anybody(self, key: Key) -> SimReplica:
        replicas = self._cluster.replicas
        return replicas[self._choices.number((*key, "who"), 0, len(replicas) - 1, 0)]

    def _fail(self, index: int) -> None:
        """One of the next writes and flushes fails."""
        if not self._is_over():
            key: Key = ("io error", index)
            self._note("input/output error")
            self._anybody(key).disk.fail_after = self._choices.number((*key, "steps"), 0, 12, 0)

    def _fill(self, index: int) -> None:
        """One disk, that of the primary, or all of them are full for a while."""
        if self._is_over():
            return
        key: Key = ("fill", index)
        chosen = self._choices.number((*key, "who"), 0, 3, 0)
        everybody = self._cluster.replicas
        primaries = [replica for replica in everybody if replica.is_primary]
        victims = (
            everybody if chosen == 3 else primaries[:1] if chosen == 2 and primaries else [self._anybody((*key, "any"))]
        )
        duration = self._choices.latency((*key, "long"), 50 * MS, self._cluster.shape.faults.disks.full_mean)
        if self._choices.flag((*key, "checkpoints"), 0.5):
            # The log has its room already: what a disk of which somebody else takes the rest meets is a checkpoint.
            self._note("no room for checkpoints")
            for replica in victims:
                replica.disk.full_folder = PACKS
            before = [replica.disk.refusals for replica in victims]
            self._cluster.scheduler.after(duration, self._empty_when_met, victims, before, duration)
            return
        self._note("full disk")
        for replica in victims:
            replica.disk.is_full = True
        self._cluster.scheduler.after(duration, self._empty, victims)

    def _empty_when_met(self, victims: list[SimReplica], before: list[int], patience: int) -> None:
        """There is room again, but not before somebody looked for it in vain."""
        if self._is_over() or [replica.disk.refusals for replica in victims] != before:
            self._empty(victims)
        else:
            self._cluster.scheduler.idle += 1
            self._cluster.scheduler.after(patience, self._empty_when_met, victims, before, patience)

    def _empty(self, victims: list[SimReplica]) -> None:
        for replica in victims:
            replica.disk.is_full, replica.disk.full_folder = False, ""

    def _stall(self, index: int) -> None:
        """A disk does not answer for a while, or slowly; in half of the cases that of the primary, if there is one."""
        if self._is_over():
            return
        key: Key = ("stall", index)
        replica, now = self._anybody(key), self._cluster.scheduler.now
        if self._choices.flag((*key, "primary"), 0.5):
            replica = next((it for it in self._cluster.replicas if it.is_primary), replica)
        duration = self._choices.latency((*key, "long"), 50 * MS, self._cluster.shape.faults.disks.stall_mean)
        if self._choices.flag((*key, "slow"), 0.5):
            self._note("slow disk")
            replica.slowness = 30
            self._cluster.scheduler.after(duration, self._hurry, replica)
        else:
            self._note("stalled disk")
            replica.stalled_until = now + duration

    def _die(self, index: int) -> None:
        """The disk of a primary does not get on, for longer than it may lead with one (T-26)."""
        if self._is_over():
            return
        primary = next((it for it in self._cluster.replicas if it.is_primary), None)
        if primary is None:
            self._cluster.scheduler.after(PATIENCE, self._die, index)
            return
        self._note("dead disk")
        times = self._choices.number(("dead disk", index, "times"), 4, 8, 4)
        patience = self._cluster.shape.timeouts.disk_ticks * primary.tick_us
        primary.stalled_until = self._cluster.scheduler.now + times * patience

    def _hurry(self, replica: SimReplica) -> None:
        replica.slowness = 1


def rot(decay: Decay, file: str, sector: int) -> None:
    """A sector changes by itself (`Damage`)."""
    decay.disk.rot(file, sector)


NOWHERE = Place(None, 0)
