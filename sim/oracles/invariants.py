"""The invariants on logs, views and bounds (PROTOCOL 12), one small checker each, by number."""

from __future__ import annotations

from collections.abc import Sized

from sim.oracles.facts import Facts, violate
from sim.oracles.watch import Oracle
from trio_pb.core.admission import REQUEST_OVERHEAD
from trio_pb.core.adverts import ADVERTS_MAX
from trio_pb.core.config import Limits
from trio_pb.core.durable import Superblock
from trio_pb.core.messages import (
    Commit,
    CommitOk,
    DoViewChange,
    EntryState,
    GetPrepares,
    PrepareMessage,
    PrepareOk,
    Reject,
    Reply,
    StartView,
    Status,
)
from trio_pb.core.ports import Apply, Send, Start, WalAppend
from trio_pb.core.prepare import PrepareId
from trio_pb.core.replica import Replica
from trio_pb.core.state import State, primary_of
from trio_pb.core.state_transfer import SERVED_READS_MAX

__all__ = [
    "AgreementOnApply",
    "AppliedBelowCommit",
    "Bounds",
    "ChainedHeaders",
    "CrashesLeaveNoFault",
    "EligibleVoters",
    "LogsOfOneViewAgree",
    "OneInstallPerView",
    "OnePreparePerOp",
    "OnePrimaryPerView",
    "OneRelease",
    "PipelineBound",
    "RepliesAreCommitted",
    "RisingTimestamps",
    "ViewsNeverFall",
]


_AMNESIAC = Status.AMNESIAC
_VOTELESS = (Status.UNBORN, Status.AMNESIAC, Status.RETIRED)


class AgreementOnApply(Oracle):
    """INV-1: whatever one replica executes at an op, every replica executes there, in every boot."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._first: dict[int, Apply] = {}
        self._last_op: dict[int, int] = {}

    def on_start(self, replica: int, start: Start) -> None:
        """A new boot executes from the checkpoint that loaded."""
        self._last_op[replica] = start.checkpoint.op if start.checkpoint is not None else 0

    def on_adopt(self, replica: int, op: int) -> None:
        """A transferred state goes on from its op."""
        self._last_op[replica] = op

    def on_apply(self, replica: int, apply: Apply) -> None:
        """Compare with the first execution of this op."""
        expected = self._last_op.get(replica, 0) + 1
        if apply.op != expected:
            violate("INV-1", f"R{replica} executes op {apply.op} when op {expected} is due")
        self._last_op[replica] = apply.op
        first = self._first.setdefault(apply.op, apply)
        if first is not apply and first != apply:
            violate("INV-1", f"R{replica} executes another op {apply.op} than the replica that executed it first")


class OnePreparePerOp(Oracle):
    """INV-3: the primary of a view sends one prepare per op."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._sent: dict[tuple[int, int], bytes] = {}

    def on_prepare(self, replica: int, send: Send, message: PrepareMessage) -> None:
        """Compare with what this view sent at this op before."""
        prepare = message.prepare
        first = self._sent.setdefault((send.envelope.view, prepare.op), prepare.checksum)
        if first != prepare.checksum:
            violate("INV-3", f"R{replica} sends a second prepare for op {prepare.op} in view {send.envelope.view}")


class ViewsNeverFall(Oracle):
    """INV-4: no frame is ahead of the durable view, and nothing durable goes back over a restart."""

    def on_send(self, replica: int, send: Send) -> None:
        """Compare the envelope with the disk (R-ENV)."""
        durable = self.facts.disks[replica].superblock
        if send.envelope.view > durable.view:
            kind = type(send.message).__name__
            violate("INV-4", f"R{replica} sends {kind} of view {send.envelope.view}, durable view {durable.view}")
        if send.envelope.boot > durable.boot:
            violate("INV-4", f"R{replica} speaks in boot {send.envelope.boot}, durable boot {durable.boot}")

    def on_start(self, replica: int, start: Start) -> None:
        """Compare what a restart found with what was durable before."""
        self._compare(replica, self.facts.disks[replica].superblock, start.superblock, "a restart")

    def on_image_durable(self, replica: int, before: Superblock, after: Superblock) -> None:
        """Compare one image with the next."""
        self._compare(replica, before, after, "a superblock write")

    def _compare(self, replica: int, before: Superblock, after: Superblock, when: str) -> None:
        pairs = (
            ("view", before.view, after.view),
            ("log_view", before.log_view, after.log_view),
            ("commit", before.commit.op, after.commit.op),
            ("boot", before.boot, after.boot),
            ("epoch", before.configuration.epoch, after.configuration.epoch),
        )
        for name, old, new in pairs:
            if new < old:
                violate("INV-4", f"R{replica}: durable {name} falls from {old} to {new} over {when}")
        if after.log_view > after.view:
            violate("INV-4", f"R{replica}: log_view {after.log_view} above view {after.view}")


class OnePrimaryPerView(Oracle):
    """INV-5: one replica, in one boot, leads a view: the one that R-PRIMARY names."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._leaders: dict[int, tuple[int, int]] = {}

    def on_step(self, replica: int, state: State) -> None:
        """Note who believes to lead."""
        if state.is_primary:
            self._lead(replica, state.boot, state.view)

    def on_prepare(self, replica: int, send: Send, _: PrepareMessage) -> None:
        """Only a primary sends prepares."""
        self._lead(replica, send.envelope.boot, send.envelope.view)

    def on_commit_message(self, replica: int, send: Send, _: Commit) -> None:
        """Only a primary sends commits."""
        self._lead(replica, send.envelope.boot, send.envelope.view)

    def on_start_view(self, replica: int, send: Send, _: StartView) -> None:
        """Only a primary starts its view."""
        self._lead(replica, send.envelope.boot, send.envelope.view)

    def _lead(self, replica: int, boot: int, view: int) -> None:
        if self._leaders.get(view) == (replica, boot):
            return  # Seen before, as in most steps.
        first = self._leaders.setdefault(view, (replica, boot))
        if first != (replica, boot):
            violate("INV-5", f"R{replica} boot {boot} leads view {view} after R{first[0]} boot {first[1]} did")
        if primary_of(view) != replica:
            violate("INV-5", f"R{replica} leads view {view}, which belongs to R{primary_of(view)}")


class OneInstallPerView(Oracle):
    """INV-6: a view begins with one log; what is told of it later only goes further."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._first: dict[int, StartView] = {}

    def on_start_view(self, replica: int, send: Send, message: StartView) -> None:
        """Compare with the first start_view of this view."""
        view = send.envelope.view
        first = self._first.setdefault(view, message)
        if first is message:
            return
        if message.base.op < first.base.op:
            violate("INV-6", f"R{replica} starts view {view} again from the lower base {message.base.op}")
        shift = message.base.op - first.base.op
        for index, (old, new) in enumerate(zip(first.checksums[shift:], message.checksums, strict=False)):
            if old != new:
                violate(
                    "INV-6", f"R{replica} starts view {view} with two logs; op {message.base.op + 1 + index} differs"
                )
        if message.base.op + len(message.checksums) < first.base.op + len(first.checksums):
            violate("INV-6", f"R{replica} starts view {view} again with a shorter log")


class LogsOfOneViewAgree(Oracle):
    """INV-7: logs with equal log_view are prefixes of one another, by identity."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._logs: dict[int, dict[int, bytes]] = {}

    def on_start_view(self, replica: int, send: Send, message: StartView) -> None:
        """A start_view defines the log of its view."""
        view = send.envelope.view
        self._note(replica, view, message.base.op, message.base.checksum)
        for op, checksum in enumerate(message.checksums, message.base.op + 1):
            self._note(replica, view, op, checksum)

    def on_prepare(self, replica: int, send: Send, message: PrepareMessage) -> None:
        """A prepare extends the log of its view."""
        self._note(replica, send.envelope.view, message.prepare.op, message.prepare.checksum)

    def on_prepare_ok(self, replica: int, send: Send, message: PrepareOk) -> None:
        """An acknowledgement names an entry of the view's log."""
        self._note(replica, send.envelope.view, message.acked.op, message.acked.checksum)

    def on_do_view_change(self, replica: int, _: Send, message: DoViewChange) -> None:
        """A do_view_change tells the log of its log_view."""
        for entry in message.entries:
            if entry.checksum is not None:
                self._note(replica, message.log_view, entry.op, entry.checksum)

    def on_image_durable(self, replica: int, before: Superblock, after: Superblock) -> None:
        """An install is the log of its log_view."""
        if after.log_view != before.log_view:
            for op, checksum in enumerate(after.install.checksums, after.install.base.op + 1):
                self._note(replica, after.log_view, op, checksum)

    def _note(self, replica: int, log_view: int, op: int, checksum: bytes) -> None:
        if self._logs.setdefault(log_view, {}).setdefault(op, checksum) != checksum:
            violate("INV-7", f"R{replica}: the logs of log_view {log_view} differ at op {op}")


class AppliedBelowCommit(Oracle):
    """INV-14: applied <= commit_max, both only rise within a boot, and nobody runs ahead of the cluster."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._last: dict[int, tuple[int, int]] = {}
        self._rebuilding: set[int] = set()  # Replicas whose state is wrong, until it is replaced.

    def on_start(self, replica: int, _: Start) -> None:
        """A new boot counts from its checkpoint."""
        self._last[replica] = (0, 0)

    def on_step(self, replica: int, state: State) -> None:
        """Compare with the step before."""
        applied, commit = state.applied, state.commit_max
        last_applied, last_commit = self._last.get(replica, (0, 0))
        was_rebuilding = replica in self._rebuilding
        if state.is_untrusted != was_rebuilding:
            (self._rebuilding.add if state.is_untrusted else self._rebuilding.discard)(replica)
        if applied == last_applied and commit == last_commit:
            return
        self._last[replica] = (applied, commit)
        if (applied < last_applied and not was_rebuilding) or commit < last_commit:
            violate(
                "INV-14", f"R{replica} goes back: applied {last_applied} to {applied}, commit {last_commit} to {commit}"
            )
        if applied > commit:
            violate("INV-14", f"R{replica} applied {applied}, above its commit point {commit}")
        if applied > self.facts.committed_op:
            violate(
                "INV-14", f"R{replica} applied {applied}; only {self.facts.committed_op} ops are committed anywhere"
            )


class PipelineBound(Oracle):
    """INV-15: a primary creates no op more than PIPE above its commit point, or WAL_OPS above its certificate."""

    def __init__(self, facts: Facts, limits: Limits) -> None:
        super().__init__(facts)
        self._limits = limits

    def on_append(self, replica: int, append: WalAppend) -> None:
        """A prepare tells its creator's commit point."""
        for prepare in append.prepares:
            ahead = prepare.op - prepare.commit
            if ahead > self._limits.pipeline_max:
                violate("INV-15", f"R{replica}: op {prepare.op} was created {ahead} ops above the commit point")

    def on_step(self, replica: int, state: State) -> None:
        """What a primary adds to its log stays within reach of its newest certified checkpoint."""
        if not state.is_leading:
            return
        head = state.log.head
        if head > state.start_view_head and head > state.certified.op + self._limits.wal_ops:
            violate("INV-15", f"R{replica} leads with head {head}; its certificate is of op {state.certified.op}")


class ChainedHeaders(Oracle):
    """INV-16: each entry's parent is the entry below it in the same log."""

    def on_append(self, replica: int, append: WalAppend) -> None:
        """Entries written together are checked against one another and the known prepares."""
        prepares = self.facts.prepares
        for prepare in append.prepares:
            parent = prepares.get(prepare.parent)
            if parent is not None and parent.op != prepare.op - 1:
                violate("INV-16", f"R{replica}: the parent of op {prepare.op} stands at op {parent.op}")

    def on_start_view(self, replica: int, send: Send, message: StartView) -> None:
        """The identities of a start_view form one chain."""
        below = message.base
        for op, checksum in enumerate(message.checksums, message.base.op + 1):
            prepare = self.facts.prepares.get(checksum)
            if prepare is not None and (prepare.op, prepare.parent) != (op, below.checksum):
                violate("INV-16", f"R{replica}: start_view of view {send.envelope.view} breaks the chain at op {op}")
            below = PrepareId(op, checksum)


class OneRelease(Oracle):
    """T-32: ops are of the release of the log that they continue. Nobody raises it: others may know no later one."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._least: dict[int, int] = {}  # Replica -> the earliest release that it speaks: a log begins with that.

    def on_step(self, replica: int, state: State) -> None:
        """Ask its program."""
        self._least[replica] = state.options.release_min

    def on_append(self, replica: int, append: WalAppend) -> None:
        """Compare each with the one below."""
        for prepare in append.prepares:
            below = self.facts.prepares.get(prepare.parent)
            if below is None:
                continue
            release = below.release if below.op else self._least.get(primary_of(prepare.view), prepare.release)
            if prepare.release != release:
                violate(
                    "one release",
                    f"R{replica}: op {prepare.op} is of release {prepare.release}, and continues a log of {release}",
                )


class RisingTimestamps(Oracle):
    """INV-17: the time of every committed request is above that of the request before it, over all views."""

    def on_committed(self, replica: int, first: int, last: int) -> None:
        """Compare each new op with the one below."""
        facts = self.facts
        below = facts.prepares[facts.committed[first - 1]]
        for op in range(first, last + 1):
            prepare = facts.prepares[facts.committed[op]]
            if prepare.timestamp <= below.timestamp + max(below.count - 1, 0):
                violate("INV-17", f"R{replica}: the timestamp of op {op} is not above that of op {op - 1}")
            below = prepare


class EligibleVoters(Oracle):
    """INV-26: who may not vote does not acknowledge, echo or send its log."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._status: dict[int, Status] = {}

    def on_step(self, replica: int, state: State) -> None:
        """Remember the status in which the step's messages leave."""
        self._status[replica] = state.status

    def on_prepare_ok(self, replica: int, _: Send, __: PrepareOk) -> None:
        """Only a normal replica acknowledges; an amnesiac does not know what it promised."""
        self._demand(replica, "prepare_ok")

    def on_commit_ok(self, replica: int, _: Send, __: CommitOk) -> None:
        """The same for the echo of a round."""
        self._demand(replica, "commit_ok")

    def on_do_view_change(self, replica: int, _: Send, __: DoViewChange) -> None:
        """Nor does it offer a log."""
        self._demand(replica, "do_view_change")

    def _demand(self, replica: int, kind: str) -> None:
        if self.facts.disks[replica].is_wiped:
            violate("INV-26", f"R{replica} sends {kind} from a disk that was formatted anew under its old id")
        status = self._status.get(replica)
        if status is not None and status in _VOTELESS:
            violate("INV-26", f"R{replica} sends {kind} while {status.name.lower()}")


class Bounds(Oracle):
    """INV-30: what a replica keeps in memory stays within its limits."""

    def __init__(self, facts: Facts, limits: Limits) -> None:
        super().__init__(facts)
        # Bodies: the cache, what is in the pipeline above it and what waits for the disk.
        self._bodies_max = (
            limits.body_cache_ops + limits.entries_max + limits.repair_requests_max * limits.repair_wanted_max
        )
        self._limits = limits
        self._outputs_max = 64 * (limits.queue_requests_max + limits.repair_requests_max * limits.repair_wanted_max)

    def on_step(self, replica: int, state: State) -> None:
        """Look at the collections that the core's state names."""
        if state.log.bodies_in_memory > self._bodies_max:
            violate("INV-30", f"R{replica} holds {state.log.bodies_in_memory} bodies, bound {self._bodies_max}")
        if len(state.outputs) > self._outputs_max:
            violate("INV-30", f"R{replica} gave {len(state.outputs)} outputs in a step")

    def on_get_prepares(self, replica: int, _: Send, message: GetPrepares) -> None:
        """One request names so many bodies and no more."""
        if len(message.wanted) > self._limits.repair_wanted_max:
            violate("INV-30", f"R{replica} asks for {len(message.wanted)} bodies at once")

    def on_core(self, replica: int, core: Replica) -> None:
        """Look at what the rooms keep for themselves; they show it to nobody else."""
        limits, admission, repair = self._limits, vars(core.admission), vars(core.repair)
        transfer, checkpoints = vars(core.transfer), vars(core.checkpoints)
        tables: list[dict[int, Sized]] = [vars(checkpoints[name])["_told"] for name in ("_adverts", "_probes")]
        adverts = max((len(told) for table in tables for told in table.values()), default=0)
        waiting = len(core.admission.queue) + admission["_held_count"] + len(admission["_early"])
        size = core.admission.queue_bytes + admission["_parked_bytes"]
        held = sum(len(numbers) for numbers in admission["_held"].values())
        kept = (
            # The queue, and as many again that wait for a number before them.
            ("requests that wait", waiting, 2 * limits.queue_requests_max),
            ("bytes of requests", size, 2 * (limits.queue_bytes_max + limits.queue_requests_max * REQUEST_OVERHEAD)),
            ("held numbers", held, admission["_held_count"]),
            ("reads", len(core.reads), limits.reads_max),
            ("sessions", len(core.execution.sessions), limits.sessions_max),
            ("record reads", len(repair["_reading"]), limits.wal_reads_max),
            ("prepares above a gap", len(core.repair.ahead), limits.prepare_buffer_max),
            ("repair requests", len(repair["_asked"]), limits.repair_requests_max),
            (
                "ops that somebody did not give",
                len(repair["_silent"]),
                3 * limits.repair_requests_max * limits.repair_wanted_max,
            ),
            ("chunks on their way", len(transfer["_fetching"]), limits.chunk_requests_max),
            ("chunk reads for peers", transfer["_serving"], SERVED_READS_MAX),
            # One per interval from the certificate before the newest, over the newest, to the head, each at most
            # WAL_OPS from the next, and as far below in a replica that lags.
            ("checkpoints", len(checkpoints["_kept"]), 3 * limits.wal_ops // limits.checkpoint_interval_ops + 4),
            ("pinned checkpoints", len(checkpoints["_pinned"]), self.facts.quorums.voters),
            ("adverts", adverts, ADVERTS_MAX),
            (
                "wanted bodies",
                sum(len(asked.ops) for asked in repair["_asked"]),
                limits.repair_requests_max * limits.repair_wanted_max,
            ),
        )
        for name, count, bound in kept:
            if count > bound:
                violate("INV-30", f"R{replica} keeps {count} {name}, bound {bound}")


class CrashesLeaveNoFault(Oracle):
    """INV-28: without damage to disks nobody forgets its promises and nothing acknowledged is unreadable."""

    def on_start(self, replica: int, start: Start) -> None:
        """So does a checkpoint that does not load, whether an earlier one does or not."""
        own, loaded = start.superblock.checkpoint.op, start.checkpoint.op if start.checkpoint is not None else 0
        if loaded < own and not self.facts.disks[replica].is_damaged:
            violate("INV-28", f"R{replica} cannot load its checkpoint of op {own}, and no disk was damaged")

    def on_step(self, replica: int, state: State) -> None:
        """Amnesia needs a damaged disk."""
        if state.status is _AMNESIAC and not self.facts.disks[replica].may_forget:
            violate("INV-28", f"R{replica} is amnesiac, and neither its proofs nor its log were lost")

    def on_do_view_change(self, replica: int, _: Send, message: DoViewChange) -> None:
        """An acknowledged entry that cannot be read needs a damaged record."""
        if self.facts.disks[replica].is_damaged:
            return
        for entry in message.entries:
            if entry.state is EntryState.FAULT:
                violate("INV-28", f"R{replica} cannot read op {entry.op}, which it acknowledged; no disk was damaged")


class RepliesAreCommitted(Oracle):
    """INV-12, first half: a client hears of an op only after it committed."""

    def on_to_client(self, replica: int, message: Reply | Reject) -> None:
        """Compare the receipt with the committed log."""
        if type(message) is Reply and message.op > self.facts.committed_op:
            violate("INV-12", f"R{replica} answers a client with op {message.op}, which is not committed")
