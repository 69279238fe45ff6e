"""Planted bugs: from one view to the next (PROTOCOL 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from sim.mutants.mutant import Patch, mutant
from trio_pb.core import normal, peers, persistence, recovery, replica, selection, view_change, wishes
from trio_pb.core import state as state_module
from trio_pb.core.durable import Install, Proof, Superblock
from trio_pb.core.messages import DoViewChange, EntryState, Envelope, StartView, Status
from trio_pb.core.quorum import Quorums
from trio_pb.core.state import State


def _install_with(**wrong: int) -> Callable[..., Install]:
    """Make install records with some fields wrong."""

    def install(**right: Any) -> Install:  # Whatever the shipped code passes.
        fields: dict[str, Any] = {**right, **wrong}
        return Install(**fields)

    return install


@mutant(
    breaks="log_view first (6.4, T-3)",
    source="the warning of VR Revisited 4.2; the protocol's own model (6.6)",
    expects=("new log", "decision", "INV-12"),
)
def longest_log_wins(patch: Patch) -> None:
    """The longest log is chosen, however old the view is that it belongs to."""

    def wrong(
        logs: Mapping[int, DoViewChange], heads: Mapping[int, int], voters: tuple[int, ...], quorums: Quorums
    ) -> selection.Selected | selection.Undecided:
        longest = max(logs, key=lambda sender: heads[sender])
        newest = max(message.log_view for message in logs.values())
        chosen = attrs.evolve(logs[longest], log_view=newest + 1)
        return selection.select({**logs, longest: chosen}, heads, voters, quorums)

    patch.set(view_change, "select", wrong)


@mutant(
    breaks="R-ENTER (6.2, T-8)",
    source="the etcd outage at Cloudflare, 2020; Raft dissertation 9.6 (pre-vote)",
    expects=("INV-34",),
)
def one_wish_is_enough(patch: Patch) -> None:
    """Whoever wishes for a view enters it, without a quorum of wishes."""

    def wrong(self: wishes.Wishes) -> int | None:
        if self.target is None or self.target <= self.state.view:
            return None
        return self.target

    patch.set(wishes.Wishes, "entry", wrong)


@mutant(
    breaks="R-NACK (6.3, T-15)",
    source="Alagappan et al., FAST'18; TigerBeetle pull request 1530; the protocol's own model (6.6)",
    expects=(
        "INV-13",
        "new log",
    ),
)
def deny_what_was_acknowledged(patch: Patch) -> None:
    """What cannot be read is denied, as if it had never been there."""
    claim: Callable[[view_change.ViewChange, int], EntryState] = vars(view_change.ViewChange)["_claim"]

    def wrong(self: view_change.ViewChange, op: int) -> EntryState:
        claimed = claim(self, op)
        return EntryState.NACK if claimed is EntryState.FAULT else claimed

    patch.set(view_change.ViewChange, "_claim", wrong)


@mutant(breaks="ack_floor carried over (6.5)", source="the protocol's own model (6.6)", expects=("INV-29", "INV-13"))
def forget_acknowledgements_at_install(patch: Patch) -> None:
    """An installed log forgets how far the replica had acknowledged it before."""
    patch.set(view_change, "Install", _install_with(ack_floor=0))


@mutant(
    breaks="proof_base (6.5)",
    source="the protocol's own model (6.6)",
    expects=("INV-29",),
    equivalent="an older proof names an older log_view, and is void by that; where an install keeps its log_view, "
    "after amnesia or over a dead log, the floor that it writes binds to no less",
    pair="any-proof-counts",
)
def keep_old_proofs_at_install(patch: Patch) -> None:
    """Proofs of before an install stay valid."""
    patch.set(view_change, "Install", _install_with(proof_base=0))


@mutant(
    breaks="6.2 (T-1)",
    source="Michael et al., DISC'17: VR without disks; PySyncObj issue 84",
    expects=("INV-4", "INV-9", "INV-31"),
)
def view_not_durable(patch: Patch) -> None:
    """A view is promised before it is on the disk."""
    change: Callable[..., None] = persistence.Persistence.change

    def wrong(self: persistence.Persistence, **changes: object) -> None:
        change(self, **changes)
        if set(changes) == {"view"}:
            self.state.durable_view = self.state.view

    patch.set(persistence.Persistence, "change", wrong)


@mutant(
    breaks="6.4 (T-3)",
    source="a slip of many first solutions: the new primary takes its own log",
    expects=("new log", "INV-12", "INV-6", "INV-7"),
)
def own_log_wins(patch: Patch) -> None:
    """The new primary begins with its own log, whatever the others state."""
    advance: Callable[[view_change.ViewChange], None] = vars(view_change.ViewChange)["_advance_selection"]
    choose = selection.select
    leading: list[int] = []

    def wrong(self: view_change.ViewChange) -> None:
        leading[:] = [self.state.replica]
        advance(self)

    def select(
        logs: Mapping[int, DoViewChange], heads: Mapping[int, int], voters: tuple[int, ...], quorums: Quorums
    ) -> selection.Selected | selection.Undecided:
        own = {it: logs[it] for it in leading}
        return choose(own, {it: heads[it] for it in own}, voters, quorums)

    patch.set(view_change.ViewChange, "_advance_selection", wrong)
    patch.set(view_change, "select", select)


@mutant(
    breaks="6.4: what is kept (T-2)",
    source="VR Revisited 5.2, state transfer to a newer view; Kafka before leader epochs",
    expects=("new log", "INV-12", "INV-29"),
)
def tail_cut_to_the_commit_point(patch: Patch) -> None:
    """A new view begins with what is known committed, and drops the rest."""

    def wrong(
        logs: Mapping[int, DoViewChange], heads: Mapping[int, int], voters: tuple[int, ...], quorums: Quorums
    ) -> selection.Selected | selection.Undecided:
        chosen = selection.select(logs, heads, voters, quorums)
        if isinstance(chosen, selection.Undecided):
            return chosen
        return attrs.evolve(chosen, checksums=(), holders={}, truncated=len(chosen.checksums))

    patch.set(view_change, "select", wrong)


@mutant(
    breaks="6.4: FAULT is no denial (T-15)",
    source="Alagappan et al., FAST'18; TigerBeetle pull request 1530",
    expects=("new log", "INV-12"),
)
def faults_count_as_denials(patch: Patch) -> None:
    """Whoever selects takes an acknowledged op that somebody cannot read for one that nobody had."""

    def wrong(
        logs: Mapping[int, DoViewChange], heads: Mapping[int, int], voters: tuple[int, ...], quorums: Quorums
    ) -> selection.Selected | selection.Undecided:
        denying = {
            sender: attrs.evolve(
                message,
                entries=tuple(
                    attrs.evolve(it, state=EntryState.NACK) if it.state is EntryState.FAULT else it
                    for it in message.entries
                ),
            )
            for sender, message in logs.items()
        }
        return selection.select(denying, heads, voters, quorums)

    patch.set(view_change, "select", wrong)


@mutant(
    breaks="6.4, step 2: bodies before start_view (T-4)",
    source="a leader that knows of entries which nobody can serve: TigerBeetle's header-only repair",
    expects=("INV-10",),
)
def speak_before_repair(patch: Patch) -> None:
    """The new primary starts its view before it holds what the log consists of."""

    def wrong(self: view_change.ViewChange) -> None:
        insides, state = vars(self), self.state
        chosen, log = insides["_selected"], insides["_repair"].candidate
        if chosen is not None and log is not None:
            common = state.log.common_prefix(chosen.base, chosen.checksums, state.commit_max)
            begin: Callable[..., None] = vars(view_change.ViewChange)["_begin_install"]
            begin(self, chosen.base, chosen.checksums, log, common, chosen.last_timestamp, chosen.truncated)

    patch.set(view_change.ViewChange, "_install_when_repaired", wrong)


@mutant(
    breaks="6.5: log_view moves with the log (T-2)",
    source="VR Revisited 5.2: state transfer into a newer view",
    expects=(
        "new log",
        "decision",
        "INV-7",
        "INV-12",
        "INV-29",
        "INV-31",
        "provenance",
    ),
)
def log_view_moves_with_the_view(patch: Patch) -> None:
    """Whoever enters a view says at once that its log is of that view."""
    enter = view_change.ViewChange.enter

    def wrong(self: view_change.ViewChange, view: int) -> None:
        enter(self, view)
        self.state.log_view = view
        persistence.Persistence.change(vars(self)["_persistence"], log_view=view)

    patch.set(view_change.ViewChange, "enter", wrong)


@mutant(
    breaks="6.5, step 3: normal on SbDone (T-28)",
    source="a state machine that goes on when its write is queued: barge issue 5",
    expects=("INV-10", "INV-31", "INV-8", "INV-4"),
)
def begin_before_the_image(patch: Patch) -> None:
    """A log is installed in memory before the superblock that says so is durable."""
    begin: Callable[..., None] = vars(view_change.ViewChange)["_begin_install"]
    finish: Callable[[view_change.ViewChange, object], None] = vars(view_change.ViewChange)["_finish_install"]

    def wrong(self: view_change.ViewChange, *arguments: object, **more: object) -> None:
        begin(self, *arguments, **more)
        insides = vars(self)
        installing, insides["_installing"] = insides["_installing"], None
        insides["_repair"].installing = None
        finish(self, installing)

    patch.set(view_change.ViewChange, "_begin_install", wrong)


@mutant(
    breaks="R-STALE (3.2) for do_view_change, 6.4 (T-1)",
    source="VR Revisited 4.2: messages of one view; a log stated for an older view may have grown since",
    expects=("new log", "INV-12"),
)
def old_statements_count(patch: Patch) -> None:
    """A log that was stated for an older view counts for this one, although its sender did not promise it."""
    patch.set(replica, "_VIEW_BOUND", vars(replica)["_VIEW_BOUND"] - {DoViewChange})
    hear = view_change.ViewChange.on_do_view_change

    def wrong(self: view_change.ViewChange, envelope: Envelope, message: DoViewChange) -> None:
        hear(self, attrs.evolve(envelope, view=max(envelope.view, self.state.view)), message)

    patch.set(view_change.ViewChange, "on_do_view_change", wrong)


@mutant(
    breaks="6.5: an sv of our own view only extends",
    source="Raft homework: an old AppendEntries that truncates what came after it",
    expects=("INV-29", "INV-7", "INV-8", "INV-13"),
)
def late_start_view_shrinks(patch: Patch) -> None:
    """A start_view of our own view that comes late is installed again, and what came after it goes."""

    def wrong(self: view_change.ViewChange, message: StartView) -> None:
        state = self.state
        if state.status is not Status.NORMAL or message.base.op + len(message.checksums) < state.applied:
            return
        common = state.log.common_prefix(message.base, message.checksums, state.commit_max)
        log = state.log.adopt(message.base, message.checksums, common)
        begin: Callable[..., None] = vars(view_change.ViewChange)["_begin_install"]
        begin(self, message.base, message.checksums, log, common, message.last_timestamp)

    patch.set(view_change.ViewChange, "_extend", wrong)


@mutant(
    breaks="6.4, step 4: last_ts over all statements (INV-17)",
    source="CockroachDB lease transfers to a slow clock",
    expects=("INV-17",),
)
def timestamps_are_not_handed_on(patch: Patch) -> None:
    """A new primary does not ask how far the timestamps of the log before it went."""
    finish: Callable[[view_change.ViewChange, object], None] = vars(view_change.ViewChange)["_finish_install"]

    def wrong(self: view_change.ViewChange, done: object) -> None:
        finish(self, done)
        self.state.last_timestamp = 0

    patch.set(view_change.ViewChange, "_finish_install", wrong)


@mutant(
    breaks="R-JOIN (6.2)",
    source="a replica left behind in an old view: Raft homework",
    expects=("INV-33",),
)
def nobody_joins(patch: Patch) -> None:
    """Whoever did not wish for a view itself does not follow the others into it."""

    def wrong(_self: view_change.ViewChange, _view: int) -> None:
        return

    patch.set(view_change.ViewChange, "join", wrong)


@mutant(
    breaks="T_SVC (6.1)",
    source="VR Revisited 4.2: messages that are sent once",
    expects=("INV-33",),
)
def wish_once(patch: Patch) -> None:
    """A wish is said once and never repeated."""

    def wrong(self: wishes.Wishes) -> None:
        self.resend_timeout.stop()

    patch.set(wishes.Wishes, "on_resend_timeout", wrong)


@mutant(
    breaks="T_VC (6.1, 6.7)",
    source="VR Revisited 4.2: a view whose primary fails as well",
    expects=("INV-33",),
)
def no_second_attempt(patch: Patch) -> None:
    """A view that comes to nothing is waited for, for ever."""

    def wrong(self: view_change.ViewChange) -> None:
        self.view_timeout.stop()

    patch.set(view_change.ViewChange, "on_view_timeout", wrong)


@mutant(
    breaks="T_CQ (6.1, T-8, T-40)",
    source="the etcd outage at Cloudflare, 2020; etcd's check-quorum",
    expects=("INV-33",),
)
def lead_without_contact(patch: Patch) -> None:
    """A primary that hears nobody keeps on leading, since its heartbeats may still arrive."""

    def wrong(_self: peers.Peers) -> bool:
        return True

    patch.set(peers.Peers, "has_contact", wrong)


@mutant(
    breaks="R-TARGET: reach (6.2, T-9)",
    source="chained and quorum-loss topologies: Omni-Paxos, EuroSys'23",
    expects=("INV-33",),
)
def always_the_same(patch: Patch) -> None:
    """The first voter is wished for, whether it is alive or not, and never another."""

    def wrong(self: wishes.Wishes) -> int:
        state = self.state
        return wishes.next_view_of(state.view, min(state.configuration.voters))

    patch.set(wishes.Wishes, "_choose", wrong)


@mutant(
    breaks="T_SUSPECT restarts with every sign of life (6.1)",
    source="Raft homework: election timers that are not reset",
    expects=("INV-34",),
)
def suspect_the_living(patch: Patch) -> None:
    """The timer of suspicion runs on, although the primary is heard."""
    restart = normal.Normal.restart_suspicion

    def wrong(self: normal.Normal) -> None:
        if not self.suspect_timeout.running:
            restart(self)

    patch.set(normal.Normal, "restart_suspicion", wrong)
    patch.set(view_change.ViewChange, "on_primary_heard", _not_heard)


def _not_heard(_self: view_change.ViewChange) -> None:
    return


@mutant(
    breaks="R-PRIMARY, 6.2: a wish is withdrawn",
    source="Raft dissertation 9.6: disruptive servers",
    expects=("INV-34",),
)
def wish_stands(patch: Patch) -> None:
    """A backup that hears its primary again does not take back its wish for another."""
    patch.set(view_change.ViewChange, "on_primary_heard", _not_heard)


@mutant(
    breaks="Forfeit (6.4, step 1) and progress-reset T_VC (T-27)",
    source="Camunda issue 4451; a leader that restores a snapshot while everybody waits",
    expects=("INV-33",),
    equivalent="a view that comes to nothing is followed by that of the next voter: whoever stands in vain costs "
    "time, and T_VC ends it",
    pair="no-second-attempt",
)
def stand_though_behind(patch: Patch) -> None:
    """A replica that would first need a state transfer stands for primary all the same."""

    def wrong(_self: view_change.ViewChange, _stated: object) -> bool:
        return False

    patch.set(view_change.ViewChange, "_must_forfeit", wrong)
    patch.set(state_module.State, "fit", property(_always_fit))


def _always_fit(_self: State) -> bool:
    return True


@mutant(
    breaks="proof_base and log_view of a proof (6.5, R-SCAN 2)",
    source="the protocol's own model (6.6)",
    expects=("INV-29", "INV-8", "INV-31", "INV-33", "INV-28"),
)
def any_proof_counts(patch: Patch) -> None:
    """A proof counts, of whatever log it is."""

    def found(_proof: Proof, _superblock: Superblock) -> bool:
        return True

    def written(_self: persistence.Persistence, _proof: Proof) -> bool:
        return True

    patch.set(recovery, "_is_of_lineage", found)
    patch.set(persistence.Persistence, "_is_of_lineage", written)
