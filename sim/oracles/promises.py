"""Shadow oracles: would the disks keep, right now, what was just promised (INV-8 to 13, 31).

A broken promise is found at the moment it is made, not when a rare crash turns it into a loss.
"""

from __future__ import annotations

from sim.oracles.facts import Facts, violate, watermark_of
from sim.oracles.watch import Oracle
from trio_pb.core.durable import Install, Proof, Superblock
from trio_pb.core.messages import CommitOk, DoViewChange, EntryState, PrepareMessage, PrepareOk, StartView
from trio_pb.core.ports import Send, Start, WalAppend
from trio_pb.core.prepare import PrepareId
from trio_pb.core.state import primary_of

__all__ = [
    "AcknowledgedIsDurable",
    "CheckpointsOfTheirView",
    "CommittedIsHeldByQuorum",
    "DenialsAreTrue",
    "DurableStays",
    "EntriesOfTheirView",
    "FoundWasWritten",
    "NewLogKeepsCommitted",
    "NewestLogWins",
    "RequirementsHold",
    "ViewPromisesKept",
    "WatermarkStays",
]


def kept_of(facts: Facts, promise: PrepareId, install: Install) -> PrepareId:
    """How far the log of an install contains what was acknowledged up to `promise`."""
    if promise.op <= install.base.op:
        return promise
    mine = facts.chain(promise, install.base.op)
    assert mine is not None, "an acknowledged entry was seen"
    kept = install.base
    for op, (own, new) in enumerate(zip(mine, install.checksums, strict=False), install.base.op + 1):
        if own != new:
            break
        kept = PrepareId(op, own)
    return kept


class AcknowledgedIsDurable(Oracle):
    """INV-8, the promise oracle: an acknowledgement is backed by records and watermark on that disk."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._seen: dict[int, PrepareId] = {}

    def on_prepare_ok(self, replica: int, send: Send, message: PrepareOk) -> None:
        """Judge by what a power cut would leave."""
        self._judge(replica, send.envelope.view, message.acked)

    def on_commit_ok(self, replica: int, send: Send, message: CommitOk) -> None:
        """The answer to a heartbeat may carry an acknowledgement."""
        if message.acked is not None:
            self._judge(replica, send.envelope.view, message.acked)

    def _judge(self, replica: int, view: int, acked: PrepareId) -> None:
        disk = self.facts.disks[replica]
        if disk.superblock.log_view != view:
            violate("INV-8", f"R{replica} acknowledges in view {view}; durable log_view {disk.superblock.log_view}")
        if disk.watermark < acked.op:
            violate("INV-8", f"R{replica} acknowledges op {acked.op}; its durable watermark is {disk.watermark}")
        if acked != self._seen.get(replica):
            if not self.facts.holds_chain(disk, acked):
                violate("INV-8", f"R{replica} acknowledges op {acked.op} without durable records of all up to it")
            self._seen[replica] = acked


class ViewPromisesKept(Oracle):
    """INV-9 and 10: no log is offered before its view is durable, nothing older is acknowledged after it,
    and no view starts before its log is.
    """  # noqa: D205

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._offered: dict[int, int] = {}  # Replica -> highest view of a do_view_change.
        self._started: set[int] = set()

    def on_do_view_change(self, replica: int, send: Send, _: DoViewChange) -> None:
        """The view must be durable."""
        view = send.envelope.view
        durable = self.facts.disks[replica].superblock.view
        if durable < view:
            violate("INV-9", f"R{replica} sends do_view_change of view {view}; durable view {durable}")
        self._offered[replica] = max(view, self._offered.get(replica, 0))

    def on_prepare_ok(self, replica: int, send: Send, _: PrepareOk) -> None:
        """It must not be older than the log offered last, in any boot."""
        if send.envelope.view < self._offered.get(replica, 0):
            violate(
                "INV-9", f"R{replica} acknowledges in view {send.envelope.view} after it offered its log to a later one"
            )

    def on_start_view(self, replica: int, send: Send, message: StartView) -> None:
        """The first start_view of a view comes from a disk that holds all of it."""
        view = send.envelope.view
        disk = self.facts.disks[replica]
        if disk.superblock.log_view != view:
            violate("INV-10", f"R{replica} starts view {view}; durable log_view {disk.superblock.log_view}")
        if view in self._started:
            return
        self._started.add(view)
        op = message.base.op + len(message.checksums)
        head = PrepareId(op, message.checksums[-1]) if message.checksums else message.base
        if not self.facts.holds_chain(disk, head):
            violate("INV-10", f"R{replica} starts view {view} without durable records up to its head {op}")


class CommittedIsHeldByQuorum(Oracle):
    """INV-11, the commit oracle: when an op first commits, a replication quorum of disks holds it.

    A disk that decays held it when its replica said so (INV-8 sees to that), and may have lost it on the way.
    """

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        # Replica -> what it ever acknowledged: after its disk decayed it acknowledges less than before.
        self._said: dict[int, set[PrepareId]] = {}

    def on_prepare_ok(self, replica: int, _: Send, message: PrepareOk) -> None:
        """Remember."""
        self._said.setdefault(replica, set()).add(message.acked)

    def on_commit_ok(self, replica: int, _: Send, message: CommitOk) -> None:
        """The same in the answer to a heartbeat."""
        if message.acked is not None:
            self._said.setdefault(replica, set()).add(message.acked)

    def on_committed(self, replica: int, first: int, last: int) -> None:
        """Count disks; holding the last op of a chain is holding all below it."""
        facts = self.facts
        newest = PrepareId(last, facts.committed[last])
        holders = facts.holders(newest)
        holders += [it for it in facts.disks if it not in holders and self._has_held(it, newest)]
        if len(holders) < facts.quorums.replication:
            names = ", ".join(f"R{holder}" for holder in holders) or "none"
            violate(
                "INV-11",
                f"R{replica} commits op {last}; disks that hold it: {names}, quorum {facts.quorums.replication}",
            )

    def _has_held(self, replica: int, newest: PrepareId) -> bool:
        if not self.facts.disks[replica].is_damaged:
            return False
        for said in sorted(self._said.get(replica, ())):
            chain = self.facts.chain(said, newest.op - 1) if said.op >= newest.op else None
            if chain is not None and chain[0] == newest.checksum:
                return True
        return False


class NewLogKeepsCommitted(Oracle):
    """The new log oracle: the log that a view starts with contains everything committed anywhere (INV-12)."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._started: set[int] = set()

    def on_start_view(self, replica: int, send: Send, message: StartView) -> None:
        """Compare op by op, once per view."""
        view = send.envelope.view
        if view in self._started:
            return
        self._started.add(view)
        committed = self.facts.committed
        base = message.base
        if base.op >= len(committed) or committed[base.op] != base.checksum:
            violate("new log", f"R{replica} starts view {view} from base op {base.op}, which did not commit so")
        head = base.op + len(message.checksums)
        if head < self.facts.committed_op:
            violate(
                "new log", f"R{replica} starts view {view} with head {head}; op {self.facts.committed_op} is committed"
            )
        for op, checksum in zip(range(base.op + 1, len(committed)), message.checksums, strict=False):
            if committed[op] != checksum:
                violate("new log", f"R{replica} starts view {view} with another op {op} than the committed one")


class DenialsAreTrue(Oracle):
    """INV-13: nobody denies an op that it acknowledged in its lineage."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._promises: dict[int, PrepareId] = {}  # The highest acknowledged, by replica.

    def on_prepare_ok(self, replica: int, _: Send, message: PrepareOk) -> None:
        """Remember the promise."""
        last = self._promises.get(replica)
        if last is None or message.acked.op >= last.op:
            self._promises[replica] = message.acked

    def on_image_durable(self, replica: int, before: Superblock, after: Superblock) -> None:
        """An install releases what is not in the new log (6.5), and nothing else does."""
        if after.log_view == before.log_view:
            return
        promise = self._promises.get(replica)
        if promise is not None:
            self._promises[replica] = kept_of(self.facts, promise, after.install)

    def on_do_view_change(self, replica: int, send: Send, message: DoViewChange) -> None:
        """No entry up to the promise may be denied, nor left out above the head."""
        promise = self._promises.get(replica)
        if promise is None:
            return
        if send.envelope.op < promise.op:
            violate("INV-13", f"R{replica} offers a log up to {send.envelope.op}; it acknowledged op {promise.op}")
        for entry in message.entries:
            if entry.op <= promise.op and entry.state is EntryState.NACK:
                violate("INV-13", f"R{replica} denies op {entry.op}; it acknowledged op {promise.op}")


class WatermarkStays(Oracle):
    """INV-29: what binds a replica to its acknowledgements never falls, but to what a new log kept of them."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._promises: dict[int, PrepareId] = {}  # The highest acknowledged, by replica.

    def on_prepare_ok(self, replica: int, _: Send, message: PrepareOk) -> None:
        """Remember the promise."""
        last = self._promises.get(replica)
        if last is None or message.acked.op >= last.op:
            self._promises[replica] = message.acked

    def on_image_durable(self, replica: int, before: Superblock, after: Superblock) -> None:
        """Compare the floor of an install with what was acknowledged before it (6.5, 1 and 2)."""
        promise, install = self._promises.get(replica), after.install
        disk = self.facts.disks[replica]
        is_copy = after.log_view == before.log_view and after.anchor != before.anchor
        if disk.may_forget and disk.proof is None and is_copy:
            return  # An amnesiac that copies a state: no log binds it before it has asked for one (7.3).
        bound = watermark_of(disk.proof, before)
        # A copied state whose log is another one voids the proofs so far, within a view: of that `kept_of` judges.
        is_same_log = after.log_view == before.log_view and install.proof_base == before.install.proof_base
        if is_same_log and disk.watermark < bound:
            violate(
                "INV-29", f"R{replica}: its watermark falls from {bound} to {disk.watermark}, and no log was installed"
            )
        if promise is None or install == before.install:
            return
        kept = kept_of(self.facts, promise, install)
        watermark = disk.watermark
        # At or below the base all is committed, and a log that does not overlap may bind to less.
        if watermark < kept.op and kept.op > install.base.op:
            violate(
                "INV-29",
                f"R{replica}: with log_view {after.log_view} its watermark is {watermark}; it acknowledged op"
                f" {promise.op}, and the new log keeps that up to op {kept.op}",
            )
        self._promises[replica] = kept

    def on_append(self, replica: int, append: WalAppend) -> None:
        """A proof promises no less than the one before it in its lineage (R-PROOF, T-34)."""
        disk, proof = self.facts.disks[replica], append.proof
        if proof is None or disk.proof is None or proof.log_view != disk.proof.log_view:
            return
        if proof.acked < disk.proof.acked and disk.proof.sequence > disk.superblock.install.proof_base:
            violate(
                "INV-29", f"R{replica}: a proof of op {disk.proof.acked} is followed by a proof of op {proof.acked}"
            )

    def on_start(self, replica: int, start: Start) -> None:
        """A restart keeps the watermark."""
        disk = self.facts.disks[replica]
        if disk.may_forget and start.scan.proof is None:
            return  # Amnesia: it asks what it acknowledged (7.3).
        found = watermark_of(start.scan.proof, start.superblock)
        if found < disk.watermark and start.superblock.log_view == disk.superblock.log_view:
            violate("INV-29", f"R{replica}: its watermark falls from {disk.watermark} to {found} over a restart")


class EntriesOfTheirView(Oracle):
    """Provenance: above the log that a view began with stand prepares of that view only (T-19, T-37)."""

    def on_prepare_ok(self, replica: int, _: Send, message: PrepareOk) -> None:
        """An acknowledged op is of its view."""
        self._judge(replica, message.acked.op, message.acked.checksum)

    def on_commit_ok(self, replica: int, _: Send, message: CommitOk) -> None:
        """The same in the answer to a heartbeat."""
        if message.acked is not None:
            self._judge(replica, message.acked.op, message.acked.checksum)

    def on_do_view_change(self, replica: int, _: Send, message: DoViewChange) -> None:
        """So is every entry of a log that is offered."""
        for entry in message.entries:
            if entry.checksum is not None:
                self._judge(replica, entry.op, entry.checksum)

    def _judge(self, replica: int, op: int, checksum: bytes) -> None:
        image = self.facts.disks[replica].superblock
        prepare = self.facts.prepares.get(checksum)
        began = max(image.install.head, image.checkpoint.op)
        if prepare is not None and op > began and prepare.view != image.log_view:
            violate(
                "provenance",
                f"R{replica}: op {op} of its log is of view {prepare.view}; its log_view {image.log_view} began with"
                f" head {image.install.head}",
            )


class CheckpointsOfTheirView(Oracle):
    """INV-7, at the bottom of a log: while a view lasts, its log goes on from no op that a later view ordered."""

    def on_image_durable(self, replica: int, before: Superblock, after: Superblock) -> None:
        """That a view is over is on the disk before a checkpoint of the next one is (8.2, 4)."""
        anchor = after.anchor
        if anchor is None or anchor == before.anchor or after.view != after.log_view:
            return
        prepare = self.facts.prepares.get(anchor.checksum)
        if prepare is not None and prepare.view > after.log_view:
            violate(
                "INV-7",
                f"R{replica}: its log of view {after.log_view} goes on from op {anchor.op} of view {prepare.view}",
            )


class NewestLogWins(Oracle):
    """The decision oracle: a primary begins with a log at least as recent as its own (6.4, T-3)."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._logs: dict[int, dict[int, bytes]] = {}  # log_view -> op -> what stands there.

    def on_prepare(self, replica: int, send: Send, message: PrepareMessage) -> None:
        """A prepare extends the log of its view."""
        self._logs.setdefault(send.envelope.view, {})[message.prepare.op] = message.prepare.checksum

    def on_append(self, replica: int, append: WalAppend) -> None:
        """So does one that its primary could write but not send."""
        for prepare in append.prepares:
            self._logs.setdefault(prepare.view, {})[prepare.op] = prepare.checksum

    def on_image_durable(self, replica: int, before: Superblock, after: Superblock) -> None:
        """Compare the log that a primary installs with the logs that it may choose from."""
        view = after.log_view
        if view == before.log_view:
            return
        if primary_of(view) == replica:
            newer = [log for log_view, log in self._logs.items() if before.log_view <= log_view < view]
            for op, checksum in enumerate(after.install.checksums, after.install.base.op + 1):
                if not any(log.get(op) == checksum for log in newer):
                    violate(
                        "decision",
                        f"R{replica} begins view {view} with op {op} of a log older than its own, of view"
                        f" {before.log_view}",
                    )
        self._learn(after)

    def on_start(self, replica: int, start: Start) -> None:
        """An image may have survived the crash that kept its completion from us."""
        self._learn(start.superblock)

    def _learn(self, image: Superblock) -> None:
        log = self._logs.setdefault(image.log_view, {})
        log.update(enumerate(image.install.checksums, image.install.base.op + 1))


class DurableStays(Oracle):
    """INV-29 over restarts: what was flushed, and not collected, is found again where no disk decayed.

    A proof is found in any case, unless the whole file is lost: of its two copies one is intact (7.4).
    """

    def on_start(self, replica: int, start: Start) -> None:
        """Compare the scan with the completed work of earlier boots."""
        disk = self.facts.disks[replica]
        found = {record.checksum for record in start.scan.records}
        prepares = self.facts.prepares
        lost = {checksum for checksum in disk.records - found if prepares[checksum].op >= disk.freed_below}
        disk.records &= found
        if disk.is_damaged:
            disk.sound.clear()  # Some of that may be lost.
        elif lost:
            ops = sorted(self.facts.prepares[checksum].op for checksum in lost)
            violate("INV-29", f"R{replica}: the durable records of ops {ops[:8]} are gone after a restart")
        if disk.proof is not None and not disk.may_forget:
            proof = start.scan.proof
            if proof is None or proof.sequence < disk.proof.sequence:
                violate("INV-29", f"R{replica}: its durable proof {disk.proof.sequence} is gone after a restart")


class FoundWasWritten(Oracle):
    """INV-29: a proof that a restart finds is one that this replica wrote, word for word (2.3, T-13).

    What is damaged counts as not there; it never speaks.
    """

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._written: dict[int, dict[int, Proof]] = {}  # Replica -> number -> proof.

    def on_append(self, replica: int, append: WalAppend) -> None:
        """Remember; one that the disk never got may be forgotten, but not mistaken for another."""
        if append.proof is not None:
            self._written.setdefault(replica, {})[append.proof.sequence] = append.proof

    def on_start(self, replica: int, start: Start) -> None:
        """Compare."""
        found = start.scan.proof
        if found is None or found.sequence == 0 or self.facts.disks[replica].is_wiped:
            return  # The first one is made with the disk.
        if self._written.get(replica, {}).get(found.sequence) != found:
            violate("INV-29", f"R{replica} finds a proof {found.sequence} up to op {found.acked} that it never wrote")


class RequirementsHold(Oracle):
    """INV-31: what a message says that it requires is on the disk when it leaves."""

    def on_send(self, replica: int, send: Send) -> None:
        """Compare with completed storage work (R-OUT2)."""
        disk = self.facts.disks[replica]
        requires = send.requires
        image = disk.superblock
        if requires.view > image.view or requires.log_view > image.log_view:
            violate(
                "INV-31",
                f"R{replica} sends {_name(send)}, which requires {requires};"
                f" durable view {image.view}/{image.log_view}",
            )
        # Few messages promise anything.
        if requires.acked and requires.acked > disk.watermark and requires.log_view == image.log_view:
            violate(
                "INV-31",
                f"R{replica} sends {_name(send)}, which requires {requires}; durable watermark {disk.watermark}",
            )


def _name(send: Send) -> str:
    return type(send.message).__name__
