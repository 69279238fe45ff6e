"""Disks in scenarios: look at what they hold, damage a place by what it means, let them fail."""

from __future__ import annotations

import attrs

from sim.disk import SECTOR_SIZE, FakeDisk
from sim.oracles.facts import DiskFacts
from sim.replica import SimReplica
from trio_pb.core.messages import CheckpointId
from trio_pb.core.prepare import PrepareId
from trio_pb.storage import superblock
from trio_pb.storage.disk import run
from trio_pb.storage.inspect import Survey, proof_offset, survey
from trio_pb.storage.journal import LOG_FOLDER
from trio_pb.storage.packs import CHECKPOINT_FOLDER
from trio_pb.storage.proofs import PROOFS_FILE
from trio_pb.storage.superblock import SUPERBLOCK_FILE

__all__ = ["DiskView"]


@attrs.frozen
class DiskView:
    """The disk of one replica, whether it runs or not."""

    replica: SimReplica

    @property
    def found(self) -> Survey:
        """All that it would hold after a power cut now."""
        return run(self._disk.remains(), survey())

    @property
    def checkpoint(self) -> CheckpointId:
        """The replica's own newest checkpoint."""
        image = self.found.image
        assert image is not None
        return image.checkpoint

    # --- Decay ----------------------------------------------------------------------------------

    def rot_record(self, *ops: int) -> None:
        """Let every record of these ops decay."""
        self._mark()
        found = self.found
        located = [it for segment in found.segments for it in segment.records if it.header.op in ops]
        assert {it.header.op for it in located} == set(ops), f"{self.replica.name} does not hold ops {ops}"
        for record in located:
            self._disk.rot(record.file, record.offset // SECTOR_SIZE)

    def misplace_record(self, op: int, onto: int) -> None:
        """Let the record of `op` stand where that of `onto` was, which is gone; its own place is zeros (T-17)."""
        self._mark()
        records = {record.id.op: record for record in self.found.records.values()}
        data = self._disk.contents(records[op].file, records[op].offset, records[op].size)
        self._disk.overwrite(records[onto].file, records[onto].offset, data)
        self._disk.overwrite(records[op].file, records[op].offset, bytes(len(data)))

    def rot_proofs(self, copy: int) -> None:
        """Let one copy of all proofs decay."""
        self._mark()
        for slot in range(4):
            self._disk.rot(PROOFS_FILE, proof_offset(slot, copy) // SECTOR_SIZE)

    def rot_superblock(self, copy: int) -> None:
        """Let one copy of the superblock decay."""
        self._mark().may_be_lost = True
        self._disk.rot(SUPERBLOCK_FILE, copy * superblock.COPY_SIZE // SECTOR_SIZE)

    def lose_proofs(self) -> None:
        """Let the file of the proofs vanish."""
        self._mark().may_forget = True
        self._disk.lose_file(PROOFS_FILE)

    def lose_log(self) -> None:
        """Let the whole log vanish."""
        self._mark().may_forget = True
        for file in self._disk.files(f"{LOG_FOLDER}/"):
            self._disk.lose_file(file)

    def lose_checkpoints(self) -> None:
        """Let everything of checkpoints vanish."""
        self._mark()
        for file in self._disk.files(f"{CHECKPOINT_FOLDER}/"):
            self._disk.lose_file(file)

    def rot_chunks(self, *digests: bytes) -> None:
        """Let chunks or manifests decay, and their neighbours in the same sectors."""
        self._mark()
        chunks = self.found.checkpoints.chunks
        for file, sector in sorted({(chunks[it].file, chunks[it].offset // SECTOR_SIZE) for it in digests}):
            self._disk.rot(file, sector)

    # --- Failure --------------------------------------------------------------------------------

    def fill(self) -> None:
        """Let there be no room."""
        self._disk.is_full = True

    def make_room(self) -> None:
        """Let there be room again."""
        self._disk.is_full = False

    def fail_after(self, steps: int) -> None:
        """Let a write or flush fail, after so many that do not."""
        self._disk.fail_after = steps

    @property
    def _disk(self) -> FakeDisk:
        return self.replica.disk

    def holds(self, id_: PrepareId) -> bool:
        """Whether there is an intact record of a prepare."""
        return id_ in self.found.records

    def _mark(self) -> DiskFacts:
        facts = self.replica.world.watch.facts.disks[self.replica.number]
        facts.is_damaged = True
        return facts
