"""Planted bugs: what a restart believes (PROTOCOL 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from sim.mutants.mutant import Patch, mutant
from trio_pb.core import birth, execution, normal, persistence, recovery, replica, view_change
from trio_pb.core.durable import Install, Proof, Scan, Superblock
from trio_pb.core.log import Hold
from trio_pb.core.manifest import CoreState
from trio_pb.core.messages import EntryState, Envelope, Hello, Status
from trio_pb.core.ports import Start
from trio_pb.core.prepare import CHECKSUM_SIZE, PrepareId
from trio_pb.core.recovery import Recovered
from trio_pb.storage import journal, proofs


@mutant(
    breaks="ex_primary (7.2, T-6)",
    source="VR Revisited 4.3; the protocol's own model (6.6)",
    expects=("INV-5", "INV-3"),
)
def restarted_primary_resumes(patch: Patch) -> None:
    """A primary that restarts leads its view on, though it may have forgotten what it sent."""
    resume = view_change.ViewChange.resume

    def wrong(self: view_change.ViewChange, status: Status) -> None:
        if status is not Status.EX_PRIMARY or self.state.view == 0:
            resume(self, status)
            return
        self.state.status = Status.NORMAL
        normal_case: normal.Normal = vars(self)["_normal"]
        normal_case.start_as_primary()

    patch.set(view_change.ViewChange, "resume", wrong)


@mutant(
    breaks="view filter, R-SCAN 5 (7.1, T-19)",
    source="etcd issue 22442; the protocol's own model (6.6)",
    expects=("provenance", "INV-7"),
)
def recover_any_view(patch: Patch) -> None:
    """Leftovers of a truncated suffix come back at a restart."""

    def wrong(superblock: Superblock, scan: Scan, checkpoint: CoreState | None) -> Recovered:
        records = tuple(attrs.evolve(record, view=superblock.log_view) for record in scan.records)
        return recovery.recover(superblock, attrs.evolve(scan, records=records), checkpoint)

    patch.set(replica, "recover", wrong)


@mutant(
    breaks="R-SCAN 6 (7.1, T-12)",
    source="Rebello et al., ATC'20",
    expects=("INV-8", "INV-31"),
    equivalent="the storage writes what it found once more, and flushes it, before the core hears of it",
    pair="whatever-is-found-counts",
)
def found_proof_counts(patch: Patch) -> None:
    """A proof found at start is taken for durable."""
    open_: Callable[..., None] = persistence.Persistence.open

    def wrong(self: persistence.Persistence, superblock: Superblock, found: int, *, has_proof: bool) -> None:
        open_(self, superblock, found, has_proof=has_proof)
        patched = vars(self)
        patched["_proven"] = found

    patch.set(persistence.Persistence, "open", wrong)


@mutant(
    breaks="R-PROOF, the watermark never falls (4.2, T-34)",
    source="the protocol's own model (6.6)",
    expects=("INV-29",),
)
def lower_the_watermark(patch: Patch) -> None:
    """After rot, proofs carry what is readable instead of what was acknowledged."""
    flush: Callable[[persistence.Persistence], None] = vars(persistence.Persistence)["flush_journal"]

    def wrong(self: persistence.Persistence) -> None:
        insides = vars(self)
        insides["_promised"] = min(insides["_promised"], self.state.log.appended_prefix)
        flush(self)

    patch.set(persistence.Persistence, "flush_journal", wrong)


@mutant(
    breaks="R-PROOF, proof numbers (4.2, T-34)",
    source="the protocol's own model (6.6)",
    expects=(
        "INV-29",
        "INV-33",
    ),
)
def number_proofs_from_one(patch: Patch) -> None:
    """The numbers of proofs begin anew with every boot."""
    make: Callable[[persistence.Persistence, int], Proof] = vars(persistence.Persistence)["_make_proof"]

    def wrong(self: persistence.Persistence, watermark: int) -> Proof:
        proof = make(self, watermark)
        return attrs.evolve(proof, sequence=(1 << 32) + (proof.sequence & 0xFFFFFFFF))

    patch.set(persistence.Persistence, "_make_proof", wrong)


@mutant(breaks="7.1 (T-13)", source="Alagappan et al., FAST'18: LogCabin, ZooKeeper", expects=("INV-29", "INV-13"))
def cut_at_damage(patch: Patch) -> None:
    """The log ends before the first record that cannot be read, acknowledged or not."""

    def wrong(superblock: Superblock, scan: Scan, checkpoint: CoreState | None) -> Recovered:
        found = recovery.recover(superblock, scan, checkpoint)
        log = found.log
        lost = [op for op in range(log.base.op + 1, found.acked + 1) if log.hold(op) is Hold.MISSING]
        if not lost or scan.proof is None:
            return found
        install = attrs.evolve(superblock.install, ack_floor=min(superblock.install.ack_floor, lost[0] - 1))
        commit = min(scan.proof.commit, log.base)
        kept = scan.proof.checksums[: len(scan.proof.checksums) - CHECKSUM_SIZE * (scan.proof.acked - lost[0] + 1)]
        proof = attrs.evolve(scan.proof, acked=lost[0] - 1, checksums=kept, commit=commit)
        return recovery.recover(attrs.evolve(superblock, install=install), attrs.evolve(scan, proof=proof), checkpoint)

    patch.set(replica, "recover", wrong)


@mutant(
    breaks="incarnations are pinned (7.6, T-16)",
    source="Jepsen, TigerBeetle 0.16: a wiped disk under the old id",
    expects=("INV-26", "INV-29", "INV-4"),
)
def pin_whoever_comes(patch: Patch) -> None:
    """A replica that was formatted anew under its old id is taken for the old one."""
    greet: Callable[[birth.Birth, Envelope, Hello], None] = birth.Birth.on_hello

    def wrong(self: birth.Birth, envelope: Envelope, message: Hello) -> None:
        held: persistence.Persistence = vars(self)["_persistence"]
        assert held.image is not None
        pinned = dict(held.image.pinned)
        if pinned.get(envelope.replica, message.incarnation) != message.incarnation:
            pinned[envelope.replica] = message.incarnation
            held.change(pinned=tuple(sorted(pinned.items())))
            state = self.state
            told = Hello(incarnation=state.incarnation, members_digest=message.members_digest, fresh=False)
            state.send((envelope.replica,), told)
        greet(self, envelope, message)

    patch.set(birth.Birth, "on_hello", wrong)


@mutant(
    breaks="R-SCAN 6: append again (7.1, T-12)",
    source="Rebello et al., ATC'20: pages that are clean and not on the disk",
    expects=("INV-8", "INV-29", "INV-31", "INV-11", "INV-10"),
    equivalent="the storage flushes all segments before it scans them, and scans what is on the device",
    pair="whatever-is-found-counts",
)
def found_counts_as_durable(patch: Patch) -> None:
    """A record that a restart reads is taken for durable, though it may be in the page cache only."""

    def wrong(superblock: Superblock, scan: Scan, checkpoint: CoreState | None) -> Recovered:
        found = recovery.recover(superblock, scan, checkpoint)
        log = found.log
        for op in range(log.base.op + 1, log.head + 1):
            if log.hold(op) is Hold.FOUND:
                log.mark_found(op, Hold.DURABLE)
        log.settle_prefixes()
        return found

    patch.set(replica, "recover", wrong)


@mutant(
    breaks="R-SCAN 6: append again, and prove again (7.1, T-12)",
    source="Rebello et al., ATC'20: pages that are clean and not on the disk",
    expects=("INV-8", "INV-29", "INV-31", "INV-11", "INV-10"),
)
def whatever_is_found_counts(patch: Patch) -> None:
    """What a restart reads is taken for durable: it is neither flushed before nor written again."""

    def nothing(_: object) -> Iterator[None]:
        return iter(())

    found_counts_as_durable(patch)
    found_proof_counts(patch)
    patch.set(journal.Journal, "settle", nothing)
    patch.set(proofs.ProofFile, "heal", nothing)


@mutant(
    breaks="7.1 never cuts what was acknowledged (T-18)",
    source="Kafka before leader epochs (KIP-101)",
    expects=("INV-29", "INV-13", "INV-12"),
)
def cut_to_the_commit_point(patch: Patch) -> None:
    """A restart keeps of its log what is known committed."""

    def wrong(superblock: Superblock, scan: Scan, checkpoint: CoreState | None) -> Recovered:
        found = recovery.recover(superblock, scan, checkpoint)
        keep = max(found.commit_known.op, found.log.base.op)
        if found.log.head <= keep:
            return found
        log = found.log.adopt(found.log.id(keep), (), keep)
        return attrs.evolve(found, log=log, acked=min(found.acked, keep), proven=min(found.proven, keep))

    patch.set(replica, "recover", wrong)


@mutant(
    breaks="7.1: above the watermark nothing was acknowledged (T-14)",
    source="Alagappan et al., FAST'18: a torn tail taken for corruption",
    expects=("INV-28", "INV-33"),
)
def torn_tail_is_damage(patch: Patch) -> None:
    """What is missing is stated as an unreadable promise, though it was never acknowledged."""
    claim: Callable[[view_change.ViewChange, int], EntryState] = vars(view_change.ViewChange)["_claim"]

    def wrong(self: view_change.ViewChange, op: int) -> EntryState:
        claimed = claim(self, op)
        return EntryState.FAULT if claimed is EntryState.NACK else claimed

    patch.set(view_change.ViewChange, "_claim", wrong)


@mutant(
    breaks="7.1, step 1: boot + 1",
    source="the nonce of VR Revisited 4.3, used again by the next recovery",
    expects=("INV-4", "INV-5", "INV-29", "INV-33"),
)
def boot_is_not_counted(patch: Patch) -> None:
    """A restart goes on under the number of the boot before."""
    begin: Callable[[replica.Replica, Start], None] = vars(replica.Replica)["_on_start"]

    def wrong(self: replica.Replica, start: Start) -> None:
        boot = max(0, start.superblock.boot - 1)
        begin(self, attrs.evolve(start, superblock=attrs.evolve(start.superblock, boot=boot)))

    patch.set(replica.Replica, "_on_start", wrong)


@mutant(
    breaks="7.3: amnesia",
    source="VR Revisited 4.3; Michael et al., DISC'17",
    expects=("INV-26", "INV-13", "INV-29", "INV-12", "new log"),
)
def amnesia_goes_unnoticed(patch: Patch) -> None:
    """A replica without any proof votes as if it had never acknowledged anything."""
    status: Callable[..., Status] = vars(recovery)["_status"]

    def wrong(superblock: Superblock, *, is_amnesiac: bool) -> Status:
        return status(superblock, is_amnesiac=False)

    patch.set(recovery, "_status", wrong)


@mutant(
    breaks="7.3: bound by all of it",
    source="found by argument while the protocol was written",
    expects=("INV-13", "INV-29", "INV-12"),
)
def amnesiac_is_free(patch: Patch) -> None:
    """An amnesiac that installs a log is bound to none of it."""

    def install(**right: Any) -> Install:
        fields: dict[str, Any] = right
        if fields["ack_floor"] == fields["base"].op + len(fields["checksums"]):
            fields["ack_floor"] = 0
        return Install(**fields)

    patch.set(view_change, "Install", install)


@mutant(
    breaks="9, R-SCAN 1: replay begins above the checkpoint",
    source="an off-by-one of many snapshots: replay from the op of the snapshot",
    expects=("INV-1", "INV-20"),
)
def replay_the_checkpoint_itself(patch: Patch) -> None:
    """A restart executes the op of its checkpoint once more."""
    restore = execution.Execution.restore

    def wrong(self: execution.Execution, core: CoreState) -> None:
        restore(self, core)
        state = self.state
        parent = state.log.body(core.op)
        if core.op > state.log.base.op and parent is not None:
            state.applied = state.applying = core.op - 1
            vars(self)["_applying_checksum"] = parent.parent

    patch.set(execution.Execution, "restore", wrong)


@mutant(
    breaks="9: sessions belong to the checkpoint (T-20)",
    source="Raft dissertation 6.3: sessions left out of the snapshot",
    expects=(
        "INV-1",
        "INV-18",
        "INV-19",
        "INV-20",
        "INV-21",
    ),
)
def restart_without_sessions(patch: Patch) -> None:
    """The session table does not come back with the checkpoint."""
    restore = execution.Execution.restore

    def wrong(self: execution.Execution, core: CoreState) -> None:
        restore(self, attrs.evolve(core, sessions=()))

    patch.set(execution.Execution, "restore", wrong)


@mutant(
    breaks="8.1: a lower anchor does not unbind",
    source="a bug of this code, found by a sweep: whoever fell back on an older checkpoint denied what it had promised",
    expects=("INV-29", "INV-13"),
)
def lower_checkpoint_unbinds(patch: Patch) -> None:
    """With an older checkpoint than before, a replica forgets what the newer one bound it to."""

    def wrong(self: persistence.Persistence, _anchor: PrepareId) -> Install:
        assert self.image is not None
        return self.image.install

    patch.set(persistence.Persistence, "install_above", wrong)
