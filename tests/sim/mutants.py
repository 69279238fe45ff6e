"""The shipped code with one rule taken out, for a while: does any oracle notice?

A mutant patches the core at run time. It names the rule that it breaks and what a run must contain so
that the break can show; `test_sensitivity` runs each over seeds that are known to have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest

from trio_pb.core import (
    admission,
    birth,
    checkpoints,
    cluster_clock,
    normal,
    persistence,
    reads,
    recovery,
    repair,
    replica,
    selection,
    sessions,
    state_transfer,
    upkeep,
    view_change,
    wishes,
)
from trio_pb.core.durable import Install, Proof, Scan, Superblock
from trio_pb.core.log import Hold
from trio_pb.core.manifest import CoreState
from trio_pb.core.messages import DoViewChange, EntryState, Envelope, Hello, PrepareCopy, Read, Request, Status
from trio_pb.core.ports import ApplyItem, Scrubbed
from trio_pb.core.prepare import CHECKSUM_SIZE, OrderedRequest
from trio_pb.core.quorum import Quorums, quorums_of
from trio_pb.core.recovery import Recovered
from trio_pb.core.state import State, primary_of
from trio_pb.storage import scrub
from trio_pb.storage.disk import Flush, Job
from trio_pb.storage.proofs import SLOTS, ProofFile
from trio_pb.storage.superblock import SUPERBLOCK_FILE, SuperblockFile

__all__ = ["MUTANTS", "Mutant"]

Patch = pytest.MonkeyPatch
Mutant = Callable[[Patch], None]

# The private names below are what the mutants break; patching goes by name.


def _restarted_primary_resumes(patch: Patch) -> None:
    """ex_primary (7.2, T-6): a primary that restarts leads its view on."""
    resume = view_change.ViewChange.resume

    def mutant(self: view_change.ViewChange, status: Status) -> None:
        if status is not Status.EX_PRIMARY or self.state.view == 0:
            resume(self, status)
            return
        self.state.status = Status.NORMAL
        normal_case: normal.Normal = vars(self)["_normal"]
        normal_case.start_as_primary()

    patch.setattr(view_change.ViewChange, "resume", mutant)


def _longest_log_wins(patch: Patch) -> None:
    """log_view first (6.4, T-3): the longest log is chosen, however old."""

    def mutant(
        logs: Mapping[int, DoViewChange], heads: Mapping[int, int], voters: tuple[int, ...], quorums: Quorums
    ) -> selection.Selected | selection.Undecided:
        longest = max(logs, key=lambda sender: heads[sender])
        newest = max(message.log_view for message in logs.values())
        chosen = attrs.evolve(logs[longest], log_view=newest + 1)
        return selection.select({**logs, longest: chosen}, heads, voters, quorums)

    patch.setattr(view_change, "select", mutant)


def _no_duplicate_check_at_admission(patch: Patch) -> None:
    """5.4: the primary queues every request, in flight or applied."""

    def mutant(self: admission.Admission, connection: int, request: Request, _ordered: int) -> None:
        insides = vars(self)
        insides["_execution"].waiting[request.client, request.number] = connection
        self.queue.append(
            OrderedRequest(request.client, request.session, request.number, request.code, request.body)
        )  # fmt: skip
        self.queue_bytes += len(request.body) + admission.REQUEST_OVERHEAD

    patch.setattr(admission.Admission, "_on_duplicate", mutant)


def _no_duplicate_check_at_apply(patch: Patch) -> None:
    """5.4: an op executes whatever numbers it holds."""
    plan_one: Callable[..., object] = vars(sessions.SessionTable)["_plan_one"]

    def mutant(
        self: sessions.SessionTable,
        op: int,
        timestamp: int,
        index: int,
        request: OrderedRequest,
        items: list[ApplyItem],
    ) -> object:
        entry = vars(self)["_table"].get(request.client)
        last = entry.last_number if entry is not None else 0
        if entry is not None and 0 < request.number <= last:
            entry.last_number = request.number - 1
        planned = plan_one(self, op, timestamp, index, request, items)
        if entry is not None:
            entry.last_number = max(last, entry.last_number)
        return planned

    patch.setattr(sessions.SessionTable, "_plan_one", mutant)


def _no_duplicate_check(patch: Patch) -> None:
    """5.4: both checks; each alone covers for the other."""
    _no_duplicate_check_at_admission(patch)
    _no_duplicate_check_at_apply(patch)


def _acknowledge_before_durable(patch: Patch) -> None:
    """R-ACK: what was handed to the disk counts as written."""

    def mutant(self: persistence.Persistence) -> int:
        return self.state.log.appended_prefix

    patch.setattr(persistence.Persistence, "ackable", mutant)


def _small_quorum(patch: Patch, name: str) -> None:
    def mutant(voters: int) -> Quorums:
        table = quorums_of(voters)
        smaller: int = max(1, getattr(table, name) - 1)
        return attrs.evolve(table, **{name: smaller})

    patch.setattr(replica, "quorums_of", mutant)


def _small_replication_quorum(patch: Patch) -> None:
    """R-COMMIT: one acknowledgement too few."""
    _small_quorum(patch, "replication")


def _small_view_change_quorum(patch: Patch) -> None:
    """R-ENTER, 6.4: one voter too few."""
    _small_quorum(patch, "view_change")


def _wait_for_everybody(patch: Patch) -> None:
    """R-COMMIT, G5: nothing commits before every voter holds it; safe, and at a stand with one of them away."""

    def mutant(voters: int) -> Quorums:
        return attrs.evolve(quorums_of(voters), replication=voters)

    patch.setattr(replica, "quorums_of", mutant)


def _one_wish_is_enough(patch: Patch) -> None:
    """R-ENTER (6.2): whoever wishes for a view enters it, without a quorum of wishes."""

    def mutant(self: wishes.Wishes) -> int | None:
        if self.target is None or self.target <= self.state.view:
            return None
        return self.target

    patch.setattr(wishes.Wishes, "entry", mutant)


def _deny_what_was_acknowledged(patch: Patch) -> None:
    """R-NACK (T-15): what cannot be read was never there."""
    claim: Callable[[view_change.ViewChange, int], EntryState] = vars(view_change.ViewChange)["_claim"]

    def mutant(self: view_change.ViewChange, op: int) -> EntryState:
        claimed = claim(self, op)
        return EntryState.NACK if claimed is EntryState.FAULT else claimed

    patch.setattr(view_change.ViewChange, "_claim", mutant)


def _install_with(**wrong: int) -> Callable[..., Install]:
    """Make install records with some fields wrong."""

    def install(**right: Any) -> Install:  # Whatever the shipped code passes.
        fields: dict[str, Any] = {**right, **wrong}
        return Install(**fields)

    return install


def _forget_acknowledgements_at_install(patch: Patch) -> None:
    """6.5: the floor of what was acknowledged does not carry over."""
    patch.setattr(view_change, "Install", _install_with(ack_floor=0))


def _keep_old_proofs_at_install(patch: Patch) -> None:
    """6.5: proofs of before the install stay valid."""
    patch.setattr(view_change, "Install", _install_with(proof_base=0))


def _unconfirmed_reads(patch: Patch) -> None:
    """10.1 (c): a primary answers reads without a round."""
    wait: Callable[..., None] = vars(reads.Reads)["_wait"]

    def mutant(self: reads.Reads, **fields: object) -> None:
        wait(self, **fields)
        newest = vars(self)["_waiting"][-1]
        newest.confirmed_op = newest.min_op

    patch.setattr(reads.Reads, "_wait", mutant)


def _round_before_the_read(patch: Patch) -> None:
    """10.1 (c): a round that began before the read came confirms it as well."""
    wait: Callable[..., None] = vars(reads.Reads)["_wait"]

    def mutant(self: reads.Reads, **fields: object) -> None:
        wait(self, **fields)
        newest = vars(self)["_waiting"][-1]
        newest.round = max(1, self.round)

    patch.setattr(reads.Reads, "_wait", mutant)


def _reads_without_an_index(patch: Patch) -> None:
    """10.2: a backup answers from where it is, without asking the primary how far that must be."""
    wait: Callable[..., None] = vars(reads.Reads)["_wait_at_backup"]

    def mutant(self: reads.Reads, connection: int, read: Read) -> None:
        wait(self, connection, read)
        newest = vars(self)["_waiting"][-1]
        newest.confirmed_op = newest.min_op

    patch.setattr(reads.Reads, "_wait_at_backup", mutant)


def _recover_any_view(patch: Patch) -> None:
    """R-SCAN 5 (T-19): leftovers of a truncated suffix come back."""

    def mutant(superblock: Superblock, scan: Scan, checkpoint: CoreState | None) -> Recovered:
        records = tuple(attrs.evolve(record, view=superblock.log_view) for record in scan.records)
        return recovery.recover(superblock, attrs.evolve(scan, records=records), checkpoint)

    patch.setattr(replica, "recover", mutant)


def _found_proof_counts(patch: Patch) -> None:
    """R-SCAN 6 (T-12): a proof found at start is taken for durable."""
    open_: Callable[..., None] = persistence.Persistence.open

    def mutant(self: persistence.Persistence, superblock: Superblock, found: int, *, has_proof: bool) -> None:
        open_(self, superblock, found, has_proof=has_proof)
        patched = vars(self)
        patched["_proven"] = found

    patch.setattr(persistence.Persistence, "open", mutant)


def _take_any_copy(patch: Patch) -> None:
    """3.2 (T-37): a copy that its sender did not vouch for extends the log."""
    take: Callable[[normal.Normal, Envelope, PrepareCopy], None] = normal.Normal.on_prepare_copy

    def mutant(self: normal.Normal, envelope: Envelope, message: PrepareCopy) -> None:
        take(self, envelope, attrs.evolve(message, is_current=True))

    patch.setattr(normal.Normal, "on_prepare_copy", mutant)


def _view_not_durable(patch: Patch) -> None:
    """6.2 (T-1): a view is promised before it is on the disk."""
    change: Callable[..., None] = persistence.Persistence.change

    def mutant(self: persistence.Persistence, **changes: object) -> None:
        change(self, **changes)
        if set(changes) == {"view"}:
            self.state.durable_view = self.state.view

    patch.setattr(persistence.Persistence, "change", mutant)


def _lead_any_view(patch: Patch) -> None:
    """R-APPLY before R-COMMIT: a new primary takes its whole log for committed (figure 8)."""
    start = normal.Normal.start_as_primary

    def mutant(self: normal.Normal) -> None:
        start(self)
        state: State = self.state
        assert primary_of(state.view) == state.replica
        state.raise_commit(state.log.head, state.log.head_checksum)

    patch.setattr(normal.Normal, "start_as_primary", mutant)


def _ask_for_what_is_kept(patch: Patch) -> None:
    """8.1: a backup asks for everything above a gap, also for what waits in its memory for the gap to close."""
    ask: Callable[[repair.Repair, set[int]], None] = vars(repair.Repair)["_ask_above_head"]

    def mutant(self: repair.Repair, in_flight: set[int]) -> None:
        kept, self.ahead = self.ahead, {}
        ask(self, in_flight)
        self.ahead = kept

    patch.setattr(repair.Repair, "_ask_above_head", mutant)


def _ask_one_by_one(patch: Patch) -> None:
    """8.1, INV-30: every missing body has a request of its own, however many there are."""
    ask: Callable[[repair.Repair], None] = vars(repair.Repair)["_ask_bodies"]

    def mutant(self: repair.Repair) -> None:
        limits = self.state.options.limits
        self.state.limits = attrs.evolve(limits, repair_requests_max=64, repair_wanted_max=1)
        ask(self)
        self.state.limits = limits

    patch.setattr(repair.Repair, "_ask_bodies", mutant)


def _lower_the_watermark(patch: Patch) -> None:
    """R-PROOF (T-34): after rot, proofs carry what is readable, not what was acknowledged."""
    flush: Callable[[persistence.Persistence], None] = vars(persistence.Persistence)["flush_journal"]

    def mutant(self: persistence.Persistence) -> None:
        insides = vars(self)
        insides["_promised"] = min(insides["_promised"], self.state.log.appended_prefix)
        flush(self)

    patch.setattr(persistence.Persistence, "flush_journal", mutant)


def _number_proofs_from_one(patch: Patch) -> None:
    """R-PROOF: the numbers of proofs begin anew with every boot."""
    make: Callable[[persistence.Persistence, int], Proof] = vars(persistence.Persistence)["_make_proof"]

    def mutant(self: persistence.Persistence, watermark: int) -> Proof:
        proof = make(self, watermark)
        return attrs.evolve(proof, sequence=(1 << 32) + (proof.sequence & 0xFFFFFFFF))

    patch.setattr(persistence.Persistence, "_make_proof", mutant)


def _leave_the_superblock(patch: Patch) -> None:
    """2.3 (T-35): opening does not bring all four copies to one image."""

    def mutant(self: SuperblockFile) -> Job[None]:
        found = vars(self)["_found"]
        vars(self)["_next_sequence"] = max(copy.sequence for copy in found if copy is not None) + 1
        yield Flush(SUPERBLOCK_FILE)

    patch.setattr(SuperblockFile, "heal", mutant)


def _slot_by_number(patch: Patch) -> None:
    """2.3 (T-36): a proof goes to the slot that its number names."""
    write: Callable[[ProofFile, Proof], Job[None]] = vars(ProofFile)["_write_slot"]

    def mutant(self: ProofFile, proof: Proof) -> Job[None]:
        vars(self)["_slot"] = (proof.sequence - 1) % SLOTS
        yield from write(self, proof)

    patch.setattr(ProofFile, "_write_slot", mutant)


def _cut_at_damage(patch: Patch) -> None:
    """7.1 (T-13): the log ends before the first record that cannot be read, acknowledged or not."""

    def mutant(superblock: Superblock, scan: Scan, checkpoint: CoreState | None) -> Recovered:
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

    patch.setattr(replica, "recover", mutant)


def _free_one_more_interval(patch: Patch) -> None:
    """R-GC: records go up to the newest certificate, not the one before it."""
    collect: Callable[[checkpoints.Checkpoints], None] = vars(checkpoints.Checkpoints)["_collect"]

    def mutant(self: checkpoints.Checkpoints) -> None:
        insides = vars(self)
        previous = insides["_previous"]
        insides["_previous"] = self.state.certified
        collect(self)
        insides["_previous"] = previous

    patch.setattr(checkpoints.Checkpoints, "_collect", mutant)


def _take_any_chunk(patch: Patch) -> None:
    """8.2: what a peer sends for a chunk is not compared with its digest."""

    class Anything:
        def __ne__(self, _other: object) -> bool:
            return False

    def mutant(_data: bytes) -> Anything:
        return Anything()

    patch.setattr(state_transfer, "chunk_digest", mutant)


def _adopt_at_once(patch: Patch) -> None:
    """8.2, 4: a copied state is taken over before the superblock image that says so is durable."""
    finish = state_transfer.StateTransfer.finish_switch

    def mutant(self: state_transfer.StateTransfer) -> None:
        switching = vars(self)["_switching"]
        held: persistence.Persistence = vars(self)["_persistence"]
        durable = held.durable
        if switching is not None and durable is not None:
            held.durable = attrs.evolve(durable, checkpoint=switching.target)
        finish(self)
        held.durable = durable

    patch.setattr(state_transfer.StateTransfer, "finish_switch", mutant)


def _certify_alone(patch: Patch) -> None:
    """9: one replica's word certifies a checkpoint."""
    _small_quorum(patch, "certify")


def _never_look(patch: Patch) -> None:
    """7.5, INV-35: nobody reads again what nobody asks for."""
    patch.setattr(scrub.Scrubber, "_go_round", _empty_round)


def _empty_round(_: scrub.Scrubber) -> scrub.Round:
    yield Scrubbed()


def _forget_what_rotted(patch: Patch) -> None:
    """7.5: damage that scrubbing found is not repaired."""
    patch.setattr(upkeep.Upkeep, "on_scrubbed", _note_round)


def _note_round(self: upkeep.Upkeep, found: Scrubbed) -> None:
    vars(self)["_is_scrubbing"] = False
    self.state.counters["scrub_rounds"] += found.is_round_done


def _trust_own_state(patch: Patch) -> None:
    """9, mismatch: nobody compares its checkpoint with the certified one."""
    patch.setattr(checkpoints.Checkpoints, "_diverge", _ignore)


def _ignore(_self: checkpoints.Checkpoints, _op: int) -> None:
    return


def _pin_whoever_comes(patch: Patch) -> None:
    """7.6 (T-16): a replica that was formatted anew under its old id is taken for the old one, and told who we are."""
    greet: Callable[[birth.Birth, Envelope, Hello], None] = birth.Birth.on_hello

    def mutant(self: birth.Birth, envelope: Envelope, message: Hello) -> None:
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

    patch.setattr(birth.Birth, "on_hello", mutant)


def _own_clock_only(patch: Patch) -> None:
    """5.1 (T-23): a primary dates orders by its own clock, whatever the others' say."""

    def mutant(self: cluster_clock.ClusterClock) -> int:
        state = self.state
        return max(state.wall_ns, state.last_timestamp + 1)

    patch.setattr(cluster_clock.ClusterClock, "now_ns", mutant)


def _time_runs_back(patch: Patch) -> None:
    """5.1 (INV-17): an order may be dated before the one that it follows."""

    def mutant(self: cluster_clock.ClusterClock) -> int:
        self.state.last_timestamp = 0
        return self.state.wall_ns

    patch.setattr(cluster_clock.ClusterClock, "now_ns", mutant)


MUTANTS: dict[str, Mutant] = {
    "ex_primary": _restarted_primary_resumes,
    "log_view first": _longest_log_wins,
    "duplicate checks": _no_duplicate_check,
    "acknowledge when durable": _acknowledge_before_durable,
    "replication quorum": _small_replication_quorum,
    "view change quorum": _small_view_change_quorum,
    "progress of a quorum": _wait_for_everybody,
    "wish quorum": _one_wish_is_enough,
    "deny only the unacknowledged": _deny_what_was_acknowledged,
    "ack_floor": _forget_acknowledgements_at_install,
    "proof_base": _keep_old_proofs_at_install,
    "read index": _reads_without_an_index,
    "read round": _unconfirmed_reads,
    "round after the read": _round_before_the_read,
    "view filter": _recover_any_view,
    "proof written anew": _found_proof_counts,
    "copy vouched for": _take_any_copy,
    "durable view": _view_not_durable,
    "inherited is not committed": _lead_any_view,
    "kept is not asked for": _ask_for_what_is_kept,
    "repair budget": _ask_one_by_one,
    "watermark stays": _lower_the_watermark,
    "proof numbers": _number_proofs_from_one,
    "superblock healed": _leave_the_superblock,
    "proof slot": _slot_by_number,
    "damage is no torn tail": _cut_at_damage,
    "collect below the previous": _free_one_more_interval,
    "chunk verified": _take_any_chunk,
    "image before state": _adopt_at_once,
    "certificate quorum": _certify_alone,
    "scrubbing": _never_look,
    "scrubbing repairs": _forget_what_rotted,
    "median clock": _own_clock_only,
    "rising time": _time_runs_back,
    "incarnation pinned": _pin_whoever_comes,
    "divergence": _trust_own_state,
}
