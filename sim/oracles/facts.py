"""What only a simulator can know: what is durable on each disk, which prepares exist, what committed.

The facts come from the outputs that a replica gave and from the storage work that completed, never from
what a replica believes. Oracles judge by them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NoReturn

import attrs

from trio_pb.core.durable import Proof, Scan, Superblock
from trio_pb.core.ports import SuperblockWrite, WalAppend
from trio_pb.core.prepare import Prepare, PrepareId, genesis
from trio_pb.core.quorum import Quorums, quorums_of

__all__ = ["DiskFacts", "Facts", "Violation", "violate", "watermark_of"]


class Violation(AssertionError):  # noqa: N818 -- it is no error of ours
    """An oracle found a broken promise. `rule` names it: INV-n, or the name of a shadow oracle."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


def violate(rule: str, text: str) -> NoReturn:
    """Report a broken promise."""
    raise Violation(rule, text)


def watermark_of(proof: Proof | None, image: Superblock) -> int:
    """The op up to which proof, superblock and checkpoint bind their replica (R-PROOF, 6.5, 8.2)."""
    install = image.install
    floor = max(install.ack_floor, image.checkpoint.op)
    if proof is None or proof.log_view != image.log_view or proof.sequence <= install.proof_base:
        return floor
    return max(proof.acked, floor)


@attrs.define
class DiskFacts:
    """What completed storage work put on one replica's disk, over all its boots."""

    replica: int
    superblock: Superblock
    proof: Proof | None = None
    records: set[bytes] = attrs.field(factory=set[bytes])  # Checksums of durable prepares.
    given: set[bytes] = attrs.field(factory=set[bytes])  # Handed to storage, durable or not.
    sound: set[bytes] = attrs.field(factory=set[bytes])  # Durable, and everything below as well.
    freed_below: int = 0  # Records of ops below may be gone: they were collected (R-GC).
    is_damaged: bool = False  # Something on it decayed: more than a crash can do.
    may_be_lost: bool = False  # A copy of its superblock decayed: with a torn write of two others no image has a pair.
    may_forget: bool = False  # All proofs or records of it may be gone at once: amnesia.
    forgets: bool = False  # It reported flushes that it did not make.
    is_wiped: bool = False  # It is a new one under an old id: nothing on it counts.
    has_miscomputed: bool = False  # It once answered wrongly: its probes may differ as well.
    is_flipped: bool = False  # The replica's memory is wrong, and was not replaced yet,
    flipped_op: int = 0  # since this op.
    # What opening a copy of it would find after a power cut now; None: nothing that could vote. Set by the cluster.
    examine: Callable[[], tuple[Superblock, Scan] | None] | None = None
    _appends: deque[WalAppend] = attrs.field(factory=deque[WalAppend])
    _images: deque[SuperblockWrite] = attrs.field(factory=deque[SuperblockWrite])

    @property
    def watermark(self) -> int:
        """The op up to which this disk binds its replica to what it acknowledged (R-PROOF, 6.5)."""
        return watermark_of(self.proof, self.superblock)

    @property
    def oldest_append(self) -> int | None:
        """The number of the oldest append that was handed to storage and is not durable."""
        return self._appends[0].sequence if self._appends else None

    def misremembers(self, found: Superblock, scan: Scan) -> bool:
        """Whether what opening the disk finds is older than what it made durable, and gives no reason to doubt it."""
        promised, proof = self.superblock, scan.proof
        pairs = (
            (promised.boot, found.boot),
            (promised.view, found.view),
            (promised.log_view, found.log_view),
            (promised.commit.op, found.commit.op),
        )
        if any(now < before for before, now in pairs):
            return True
        if proof is None or not scan.has_log or self.proof is None:
            return False  # An amnesiac knows that it forgot.
        return proof.sequence < self.proof.sequence

    def append(self, output: WalAppend) -> None:
        """An append was handed to storage."""
        self._appends.append(output)
        self.given.update(prepare.checksum for prepare in output.prepares)

    def write(self, output: SuperblockWrite) -> None:
        """A superblock image was handed to storage."""
        self._images.append(output)

    def appends_done(self, sequence: int) -> None:
        """All appends up to `sequence` are durable."""
        while self._appends and self._appends[0].sequence <= sequence:
            append = self._appends.popleft()
            self.records.update(prepare.checksum for prepare in append.prepares)
            if append.proof is not None:
                self.proof = append.proof

    def image_done(self, sequence: int) -> Superblock | None:
        """Image `sequence` is durable; return the one before, or None when nothing changed."""
        before = self.superblock
        while self._images and self._images[0].sequence <= sequence:
            self.superblock = self._images.popleft().image
        return None if self.superblock is before else before

    def is_on_its_way(self, superblock: Superblock) -> bool:
        """Whether this image was handed to storage and has not been reported durable."""
        return any(write.image == superblock for write in self._images)

    def restarted(self, superblock: Superblock, durable: Scan) -> None:
        """Storage was opened anew; what was in flight has been decided."""
        self._appends.clear()
        self._images.clear()
        self.superblock = superblock
        self.records.update(record.checksum for record in durable.records)
        self.proof = durable.proof


class Facts:
    """The disks, every prepare ever made, and the committed log of a run."""

    def __init__(self, cluster: bytes, superblocks: list[Superblock]) -> None:
        self.origin = genesis(cluster)
        self.disks = {image.replica: DiskFacts(image.replica, image) for image in superblocks}
        self.quorums: Quorums = quorums_of(len(superblocks))
        self.is_beyond = False  # Something happened that no quorum makes good: whoever notices may stop, and say why.
        self.prepares: dict[bytes, Prepare] = {self.origin.checksum: self.origin}
        self.committed: list[bytes] = [self.origin.checksum]  # By op: cm(N).

    @property
    def committed_op(self) -> int:
        """The highest op known committed anywhere."""
        return len(self.committed) - 1

    def wipe(self, replica: int, superblock: Superblock) -> None:
        """A disk was lost, and another took its place."""
        self.disks[replica] = DiskFacts(replica, superblock, is_damaged=True, is_wiped=True)

    def register(self, prepare: Prepare) -> None:
        """A prepare was seen in a message or on its way to a disk."""
        self.prepares.setdefault(prepare.checksum, prepare)

    def chain(self, top: PrepareId, down_to: int) -> list[bytes] | None:
        """Checksums of the ops down_to + 1 .. top.op that lead to `top`; None when a link is unknown."""
        found: list[bytes] = []
        checksum = top.checksum
        for op in range(top.op, down_to, -1):
            prepare = self.prepares.get(checksum)
            if prepare is None or prepare.op != op:
                return None
            found.append(checksum)
            checksum = prepare.parent
        found.reverse()
        return found

    def parent_of(self, checksum: bytes) -> bytes:
        """Checksum of the prepare below."""
        return self.prepares[checksum].parent

    def holds_chain(self, disk: DiskFacts, top: PrepareId) -> bool:
        """Whether the records of `top` and of all below it, down to a checkpoint, are durable on `disk`."""
        walked: list[bytes] = []
        checksum = top.checksum
        while checksum != self.origin.checksum and checksum not in disk.sound:
            if self._is_checkpointed(disk, checksum):
                break
            if checksum not in disk.records:
                return False
            walked.append(checksum)
            checksum = self.prepares[checksum].parent
        disk.sound.update(walked)  # Nothing durable is ever lost, so this is found out once.
        return True

    def _is_checkpointed(self, disk: DiskFacts, checksum: bytes) -> bool:
        op, anchor = self.prepares[checksum].op, disk.superblock.anchor
        if anchor is None or op > anchor.op:
            return False
        return anchor.checksum == checksum if op == anchor.op else self.committed[op : op + 1] == [checksum]

    def holders(self, id: PrepareId) -> list[int]:  # noqa: A002 -- the paper's word for it
        """Replicas whose disk holds the log up to `id` and the promise to keep it."""
        return [
            replica for replica, disk in self.disks.items() if disk.watermark >= id.op and self.holds_chain(disk, id)
        ]
