"""Equal logs make equal states, and checkpoints say which (INV-20, 21, 25; PROTOCOL 9)."""

from __future__ import annotations

from sim.oracles.facts import Facts, violate
from sim.oracles.watch import Oracle
from trio_pb.core.durable import Superblock
from trio_pb.core.messages import CheckpointId, CommitOk, Ids, PrepareOk, Probe
from trio_pb.core.ports import Collect, Send, Start
from trio_pb.core.state import State

__all__ = ["CheckpointsAgree", "EqualStates", "WrongStateIsKnown"]


class EqualStates(Oracle):
    """INV-20: equal applied op, equal state and equal probe."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._digests: dict[int, bytes] = {}
        self._probes: dict[int, bytes] = {}

    def on_state(self, replica: int, op: int, digest: bytes) -> None:
        """Compare the digest with that of the first replica that was here."""
        if self.facts.disks[replica].is_flipped:
            return  # It will notice: `demand_convergence` sees to that.
        if self._digests.setdefault(op, digest) != digest:
            violate("INV-20", f"R{replica}: its state after op {op} differs from that of another replica")

    def on_prepare_ok(self, replica: int, _: Send, message: PrepareOk) -> None:
        """Acknowledgements carry probes."""
        self._compare(replica, message.probe)

    def on_commit_ok(self, replica: int, _: Send, message: CommitOk) -> None:
        """So do the answers to heartbeats."""
        self._compare(replica, message.probe)

    def _compare(self, replica: int, probe: Probe) -> None:
        if self.facts.disks[replica].has_miscomputed:
            return  # So will this. A flip alone shows in no answer, and probes are made of those.
        if self._probes.setdefault(probe.op, probe.digest) != probe.digest:
            violate("INV-20", f"R{replica}: its probe at op {probe.op} differs from that of another replica")


class WrongStateIsKnown(Oracle):
    """INV-20: whoever knows that a quorum made another checkpoint of the same op does not trust its own state (9).

    Judged in the step in which it learns of both. A restart may find both on the disk, and has to hear of it again.
    """

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._judged: dict[int, tuple[CheckpointId, CheckpointId]] = {}  # Replica -> its own and the certified one.

    def on_start(self, replica: int, start: Start) -> None:
        """What stands on the disk is not news."""
        image = start.superblock
        self._judged[replica] = image.checkpoint, image.certified

    def on_step(self, replica: int, state: State) -> None:
        """Compare, when either is new."""
        own, certified = state.checkpoint, state.certified
        judged = self._judged.get(replica)
        if judged is not None and own is judged[0] and certified is judged[1]:
            return
        self._judged[replica] = own, certified
        if judged == (own, certified) or own.op != certified.op or own == certified:
            return
        if not (state.is_untrusted or state.is_state_lost):
            violate("INV-20", f"R{replica} trusts its state of op {own.op}, of which a quorum certified another")


class CheckpointsAgree(Oracle):
    """INV-21 and 25: one identity per checkpoint, certified or not; nothing is freed that a certificate needs.

    A certificate says that q_cert disks hold the checkpoint, and a copied state is ours once our superblock
    says so (8.2, 4).
    """

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._first: dict[int, bytes] = {}  # Op -> identity.
        self._certified: dict[int, CheckpointId] = {}  # Replica -> the newest certificate that it knows.
        self._own: dict[int, CheckpointId] = {}  # Replica -> its own checkpoint as compared last.
        self._wrong: set[tuple[int, CheckpointId]] = set()  # Made, it may be, of a state that had gone wrong.
        self._holders: dict[CheckpointId, set[int]] = {}  # Checkpoint -> disks that had it as their own.
        self._newest = 0  # Op of the newest certificate.

    def on_start(self, replica: int, start: Start) -> None:
        """An image may have survived the crash that kept its completion from us."""
        self._holders.setdefault(start.superblock.checkpoint, set()).add(replica)

    def on_image_durable(self, replica: int, _: Superblock, after: Superblock) -> None:
        """A checkpoint is a disk's own through its superblock."""
        self._holders.setdefault(after.checkpoint, set()).add(replica)

    def on_adopt(self, replica: int, op: int) -> None:
        """Compare with the disk."""
        durable = self.facts.disks[replica].superblock.checkpoint
        if durable.op != op:
            violate("INV-21", f"R{replica} adopts the state of op {op}; its durable checkpoint is of op {durable.op}")

    def on_step(self, replica: int, state: State) -> None:
        """Compare whatever a replica believes of checkpoints with what was believed first."""
        certified, own = state.certified, state.checkpoint
        if certified is not self._certified.get(replica):
            self._certified[replica] = certified
            self._certify(replica, certified)
        if own is self._own.get(replica):
            return
        if self.facts.disks[replica].is_flipped:
            self._wrong.add((replica, own))  # Its disk names it still when it has loaded a state of before.
        elif not state.is_untrusted and (replica, own) not in self._wrong:
            self._own[replica] = own
            self._compare(replica, own)

    def _certify(self, replica: int, certified: CheckpointId) -> None:
        if certified.op > self._newest:
            self._newest = certified.op
            holders = self._holders.get(certified, set())
            if len(holders) < self.facts.quorums.certify:
                violate(
                    "INV-21",
                    f"R{replica} takes a checkpoint of op {self._newest} for certified; {len(holders)} have it",
                )
        self._compare(replica, certified)

    def on_collect(self, replica: int, collect: Collect) -> None:
        """R-GC: only below the newest certificate, and not above our own durable checkpoint."""
        image = self.facts.disks[replica].superblock
        newest, own = self._certified[replica].op, image.checkpoint.op
        low = collect.wal_low - 1
        if low and (low >= newest or low > own):
            violate("INV-25", f"R{replica} frees up to op {low}; the newest certificate: {newest}, its own: {own}")
        if image.checkpoint.op and image.checkpoint not in collect.keep:
            violate("INV-25", f"R{replica} does not keep its own checkpoint of op {image.checkpoint.op}")

    def on_ids(self, replica: int, _: Send, message: Ids) -> None:
        """What is told as committed is committed."""
        committed = self.facts.committed
        for op, checksum in enumerate(message.checksums, message.low):
            if committed[op : op + 1] != [checksum]:
                violate("INV-25", f"R{replica} tells an identity for op {op} that did not commit")

    def _compare(self, replica: int, checkpoint: CheckpointId) -> None:
        if checkpoint.op and self._first.setdefault(checkpoint.op, checkpoint.digest) != checkpoint.digest:
            violate("INV-21", f"R{replica}: its checkpoint of op {checkpoint.op} differs from that of another replica")
