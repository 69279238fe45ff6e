"""What is on its way to the disk and what has arrived: journal, proofs, superblock (PROTOCOL 4.2).

The other rooms queue what must become durable; `flush` turns the queue into outputs once per step.
They never wait: they look at what is durable, and go on when a completion has changed it (R-OUT1).
"""

from __future__ import annotations

from collections import deque

import attrs

from trio_pb.core.durable import BOOT_SHIFT, Install, Proof, Superblock
from trio_pb.core.log import Log
from trio_pb.core.marks import Mark, reach
from trio_pb.core.messages import Status
from trio_pb.core.ports import SuperblockWrite, WalAppend
from trio_pb.core.prepare import Prepare, PrepareId
from trio_pb.core.state import State

__all__ = ["PROOF_CHECKSUMS_MAX", "Persistence"]

PROOF_CHECKSUMS_MAX = 64
_NORMAL = Status.NORMAL  # Asked for in every step.


@attrs.frozen
class _Append:
    sequence: int
    ids: tuple[PrepareId, ...]
    proof: Proof | None
    started_tick: int


class Persistence:
    """The core's view of its own storage."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._queued: list[Prepare] = []
        self._appends: deque[_Append] = deque()  # In flight, oldest first.
        self._append_sequence = 0
        self._proof_counter = 0
        self._found = 0  # Watermark of the proof that this boot found: binds us, but proves nothing.
        self._proven = 0  # Highest watermark of a proof of this lineage that became durable in this boot.
        self._vouched = 0  # What R-ACK allows, as far as it depends on storage: proven, or needing no proof.
        self._promised = 0  # Highest watermark of any proof of this lineage, written or on its way.
        self._is_proof_due = False  # A proof must be written even if the watermark stays.
        # None, or a damaged one, is on disk, or no log beside it: the next restart might find an amnesiac.
        self._lacks_proof = False
        self.image: Superblock | None = None  # As it shall be.
        self.durable: Superblock | None = None  # As it is.
        self._image_sequence = 0
        self._image_in_flight: Superblock | None = None
        self._image_dirty = False

    def open(self, superblock: Superblock, found: int, *, has_proof: bool) -> None:
        """Begin a boot with what the disk holds; `found` is the watermark of the proof found there.

        A proof that was read may sit in the page cache only, never to reach the device. So it binds
        us (we may have acknowledged on it), but nothing is acknowledged before a fresh one is durable
        (R-SCAN 6, T-12).
        """
        self.image = self.durable = superblock
        self._found = found
        self._promised = max(found, superblock.install.ack_floor)
        self._lacks_proof = not has_proof
        self._is_proof_due = found > superblock.install.ack_floor or self._lacks_proof
        self._note_acked()

    # --- Superblock -----------------------------------------------------------------------------

    def change(self, **changes: object) -> None:
        """Change the superblock; durable once `durable` shows it."""
        assert self.image is not None
        # attrs.evolve cannot type its keyword arguments; Superblock's validators are its types.
        self.image = attrs.evolve(self.image, **changes)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        self._image_dirty = True

    def install_above(self, anchor: PrepareId) -> Install:
        """The install record to write together with a new anchor: a lower one than before must not unbind us."""
        assert self.image is not None
        install, old = self.image.install, self.image.anchor
        if old is None or old.op <= max(anchor.op, install.ack_floor):
            return install
        if old.op <= install.base.op:
            return attrs.evolve(install, ack_floor=old.op)  # The identities above it stand there as they are.
        # With the identities down to it, so that a later start knows which prepare it is bound to.
        return attrs.evolve(
            install, base=old, checksums=install.checksums[old.op - install.base.op :], ack_floor=old.op
        )

    def on_superblock_done(self, sequence: int) -> None:
        """An image became durable."""
        assert sequence == self._image_sequence, "superblock images are written one at a time"
        assert self._image_in_flight is not None
        self.durable = self._image_in_flight
        self._image_in_flight = None
        self.state.durable_view = self.durable.view
        self.state.is_live = self.durable.boot == self.state.boot
        self._note_acked()

    # --- Journal --------------------------------------------------------------------------------

    def renew_proof(self) -> None:
        """Write a proof even if the watermark stays: a copy of the newest was damaged."""
        self._is_proof_due = self._lacks_proof = True

    def append(self, prepare: Prepare) -> None:
        """Write this record with the next group."""
        self._queued.append(prepare)

    def on_wal_done(self, sequence: int, logs: tuple[Log, ...]) -> bool:
        """Records and proofs of appends up to `sequence` are durable; whether that was news."""
        assert sequence <= self._append_sequence, "a completion of an append that never was"
        news = False
        while self._appends and self._appends[0].sequence <= sequence:
            done = self._appends.popleft()
            news = True
            for id_ in done.ids:
                for log in logs:
                    log.mark_durable(id_)
            if done.proof is None:
                continue
            if self._is_of_lineage(done.proof):
                self._proven = max(self._proven, done.proof.acked)
            else:
                reach(Mark.LATE_PROOF_VOID)
        self._note_acked()
        return news

    @property
    def oldest_append_tick(self) -> int | None:
        """When the oldest append still in flight was given out (T_DISK)."""
        return self._appends[0].started_tick if self._appends else None

    def last_proof_sequence(self) -> int:
        """Highest proof sequence used so far; an install voids all up to it."""
        assert self.durable is not None
        return max((self.state.boot << BOOT_SHIFT) + self._proof_counter, self.durable.install.proof_base)

    def begin_lineage(self, install: Install) -> None:
        """A new log was installed: only its floor binds, and proofs start afresh (PROTOCOL 6.5)."""
        self._found = self._proven = 0
        self._promised = install.ack_floor
        self._is_proof_due = self._lacks_proof
        self._note_acked()

    def ackable(self) -> int:
        """The highest op that R-ACK allows to acknowledge."""
        return min(self.state.log.durable_prefix, self._vouched)

    # --- Once per step --------------------------------------------------------------------------

    def flush_journal(self) -> None:
        """Give out the records and the proof that this step made due.

        Not before this boot is live: a crash would give its proof numbers to the next one as well.
        """
        state = self.state
        assert state.is_live
        proof: Proof | None = None
        if state.status is _NORMAL:
            # R-PROOF: what will hold once this append is durable; it never falls within a lineage.
            appended = state.log.appended_prefix
            if self._queued or appended > self._promised or self._is_proof_due:
                self._promised = max(self._promised, appended)
                proof = self._make_proof(self._promised)
                self._is_proof_due = self._lacks_proof = False
        if not self._queued and proof is None:
            return
        self._append_sequence += 1
        prepares = tuple(self._queued)
        self._queued.clear()
        ids = tuple([prepare.id for prepare in prepares])
        self._appends.append(_Append(self._append_sequence, ids, proof, state.now_tick))
        state.outputs.append(WalAppend(self._append_sequence, prepares, proof))

    def _make_proof(self, watermark: int) -> Proof:
        state, log = self.state, self.state.log
        self._proof_counter += 1
        low = max(log.base.op + 1, watermark - PROOF_CHECKSUMS_MAX + 1)
        while not log.is_identified(low, watermark):
            low += 1  # After a fault the watermark may stand above an op whose identity is lost.
        commit = min(state.commit_max, watermark)
        checksum = log.checksum(commit)
        known = PrepareId(commit, checksum) if checksum is not None else self._commit_in_superblock(watermark)
        return Proof(
            (state.boot << BOOT_SHIFT) + self._proof_counter,
            state.log_view,
            watermark,
            log.joined_checksums(low, watermark),
            known,
        )

    def _commit_in_superblock(self, watermark: int) -> PrepareId:
        assert self.image is not None
        return self.image.commit if self.image.commit.op <= watermark else self.state.log.base

    def flush_superblock(self) -> None:
        """Give out the newest image, one at a time."""
        if not self._image_dirty or self._image_in_flight is not None:
            return
        assert self.image is not None
        if self.state.commit_known.op > self.image.commit.op:
            self.image = attrs.evolve(self.image, commit=self.state.commit_known)
        self._image_dirty = False
        self._image_sequence += 1
        self._image_in_flight = self.image
        self.state.outputs.append(SuperblockWrite(self._image_sequence, self.image))

    def _is_of_lineage(self, proof: Proof) -> bool:
        assert self.durable is not None
        return proof.log_view == self.state.log_view and proof.sequence > self.durable.install.proof_base

    def _note_acked(self) -> None:
        self._vouched = max(self._floor(), self._proven)
        self.state.acked = max(self._vouched, self._found)

    def _floor(self) -> int:
        """What binds us, and needs no proof: the install's floor, and state that is durable itself."""
        assert self.durable is not None
        anchor = self.durable.anchor
        return max(self.durable.install.ack_floor, anchor.op if anchor is not None else 0)
