"""Planted bugs: the normal case (PROTOCOL 5.1 to 5.3, 5.5)."""

from __future__ import annotations

from collections.abc import Callable

from sim.mutants.mutant import Patch, mutant
from trio_pb.core import execution, normal, peers, persistence, repair, replica
from trio_pb.core.messages import Commit, CommitOk, Envelope, Position, PrepareMessage, PrepareOk
from trio_pb.core.prepare import Prepare, PrepareId
from trio_pb.core.state import State, primary_of


@mutant(breaks="R-ACK (5.3)", source="PySyncObj issue 84", expects=("INV-8", "INV-31"))
def acknowledge_before_durable(patch: Patch) -> None:
    """What was handed to the disk counts as written."""

    def wrong(self: persistence.Persistence) -> int:
        return self.state.log.appended_prefix

    patch.set(persistence.Persistence, "ackable", wrong)


@mutant(breaks="R-COMMIT before R-APPLY (5.3, T-5)", source="figure 8 of the Raft paper", expects=("INV-11", "INV-14"))
def lead_any_view(patch: Patch) -> None:
    """A new primary takes its whole log for committed."""
    start = normal.Normal.start_as_primary

    def wrong(self: normal.Normal) -> None:
        start(self)
        state: State = self.state
        assert primary_of(state.view) == state.replica
        state.raise_commit(state.log.head, state.log.head_checksum)

    patch.set(normal.Normal, "start_as_primary", wrong)


@mutant(
    breaks="R-COMMIT (5.3)",
    source="the first of the twelve mistakes: answers before replication",
    expects=("INV-11", "INV-14"),
)
def primary_commits_alone(patch: Patch) -> None:
    """What the primary's own disk holds is committed."""

    def wrong(self: normal.Normal) -> None:
        state = self.state
        alone = persistence.Persistence.ackable(vars(self)["_persistence"])
        if alone > state.commit_max:
            state.raise_commit(alone, state.log.checksum(alone))

    patch.set(normal.Normal, "advance_commit", wrong)


@mutant(
    breaks="5.2, step 4 (T-4)",
    source="an index compared with <= for ==, in many first solutions of the course assignment",
    expects=(
        "INV-7",
        "INV-8",
        "INV-16",
        "INV-33",
        "copy storm",
    ),
)
def gap_accepted(patch: Patch) -> None:
    """A prepare above a gap is taken as the next one."""

    def wrong(self: normal.Normal, prepare: Prepare) -> None:
        log = self.state.log
        if prepare.op <= log.head:
            repair.Repair.take(vars(self)["_repair"], prepare)
            return
        while log.head < prepare.op - 1:
            log.extend_identities([prepare.parent])
        append: Callable[[normal.Normal, Prepare], None] = vars(normal.Normal)["_append"]
        append(self, prepare)

    patch.set(normal.Normal, "_take_prepare", wrong)


@mutant(
    breaks="R-STALE and 5.2: the view of a prepare (T-30)",
    source="a view check forgotten, the classic of Paxos and Raft homework (phase 2 of an old ballot)",
    expects=("INV-7", "INV-4", "INV-8", "provenance", "new log", "INV-2", "INV-31"),
)
def deposed_primary_is_heard(patch: Patch) -> None:
    """What a primary of an older view orders is taken as if it led ours."""
    patch.set(replica, "_VIEW_BOUND", vars(replica)["_VIEW_BOUND"] - {PrepareMessage, Commit})

    def wrong(self: normal.Normal, _envelope: Envelope) -> bool:
        return self.state.is_backup

    patch.set(normal.Normal, "_is_from_primary", wrong)


@mutant(
    breaks="R-GOSSIP (5.5)",
    source="Raft 5.3: min(leaderCommit, index of last new entry), forgotten",
    expects=("INV-2", "INV-14", "INV-1"),
)
def commit_by_number(patch: Patch) -> None:
    """A commit number heard from anybody moves our commit point, whatever our log holds there."""

    def wrong(self: peers.Peers, envelope: Envelope, _position: Position) -> None:
        state = self.state
        if state.commit_max < envelope.commit <= state.log.head:
            state.raise_commit(envelope.commit, state.log.checksum(envelope.commit))

    patch.set(peers.Peers, "_gossip", wrong)


@mutant(
    breaks="5.3 (T-30): acknowledgements are of this view",
    source="Raft 5.4.2; VR Revisited 4.1",
    expects=("INV-11",),
    equivalent="what is counted still names the very prepare that stands in the new log, durable where it was said: "
    "with its checksum an old acknowledgement says nothing wrong, since a log never takes back what it inherited",
    pair="any-acknowledgement-counts",
)
def old_acknowledgements_count(patch: Patch) -> None:
    """Acknowledgements of an older view count in this one, if they name a prepare of our log."""
    patch.set(replica, "_VIEW_BOUND", vars(replica)["_VIEW_BOUND"] - {PrepareOk, CommitOk})

    def wrong(self: normal.Normal, envelope: Envelope) -> bool:
        return self.state.is_voter(envelope.replica)

    patch.set(normal.Normal, "_is_ours", wrong)


@mutant(
    breaks="5.3 (T-30): acknowledgements name a checksum",
    source="Raft's AppendEntries replies, which name an index only",
    expects=("INV-11",),
    equivalent="within one view there is one prepare for each op, so its view says as much of an "
    "acknowledgement as its checksum",
    pair="any-acknowledgement-counts",
)
def acknowledgements_by_number(patch: Patch) -> None:
    """An acknowledgement counts for its op, whatever prepare it names."""

    def wrong(self: normal.Normal, sender: int, acked: PrepareId) -> None:
        self.acked_ops[sender] = max(self.acked_ops.get(sender, 0), min(acked.op, self.state.log.head))

    patch.set(normal.Normal, "_note_acked", wrong)


@mutant(
    breaks="5.3 (T-30)",
    source="Raft homework: replies of an old term that raise matchIndex",
    expects=("INV-11", "new log", "INV-12"),
)
def any_acknowledgement_counts(patch: Patch) -> None:
    """Acknowledgements count for their op, of whatever view and prepare they are."""
    old_acknowledgements_count(patch)
    acknowledgements_by_number(patch)


@mutant(
    breaks="5.1: the pipeline is bounded (T-29)",
    source="unbounded in-flight windows of etcd before max-inflight-msgs",
    expects=("INV-15",),
)
def pipeline_without_bound(patch: Patch) -> None:
    """The primary orders whatever waits, however much is in flight."""

    def wrong(self: normal.Normal) -> bool:
        state = self.state
        return state.log.head < state.certified.op + state.limits.wal_ops

    patch.set(normal.Normal, "_has_room", wrong)


@mutant(
    breaks="5.1, 9: no order beyond WAL_OPS (T-29)",
    source="a cluster that outruns its own snapshots: etcd and ZooKeeper under load",
    expects=("INV-15",),
)
def journal_without_bound(patch: Patch) -> None:
    """The primary orders on, however far the newest certified checkpoint is behind."""

    def wrong(self: normal.Normal) -> bool:
        state = self.state
        return state.log.head - state.commit_max < state.limits.pipeline_max

    patch.set(normal.Normal, "_has_room", wrong)


@mutant(
    breaks="R-PROOF: a proof without a record (4.2)",
    source="a review of this code: an idle suffix was never acknowledged",
    expects=("INV-33", "INV-35"),
)
def no_proof_without_a_record(patch: Patch) -> None:
    """The watermark rises only together with a record that is written."""
    flush: Callable[[persistence.Persistence], None] = vars(persistence.Persistence)["flush_journal"]

    def wrong(self: persistence.Persistence) -> None:
        if vars(self)["_queued"]:
            flush(self)

    patch.set(persistence.Persistence, "flush_journal", wrong)


@mutant(
    breaks="5.1: the timestamps of a batch (INV-17)",
    source="LogCabin and others: one time for a whole batch",
    expects=("INV-17",),
)
def timestamps_of_a_batch_overlap(patch: Patch) -> None:
    """The next batch may begin before the last request of the one before."""
    prepare: Callable[[normal.Normal], None] = vars(normal.Normal)["_prepare"]

    def wrong(self: normal.Normal) -> None:
        before = self.state.log.head
        prepare(self)
        newest = self.state.log.body(before + 1)
        assert newest is not None
        self.state.last_timestamp = newest.timestamp

    patch.set(normal.Normal, "_prepare", wrong)


@mutant(
    breaks="R-APPLY (5.3): in order",
    source="an apply loop that skips what it does not hold",
    expects=("INV-1",),
)
def execute_what_is_there(patch: Patch) -> None:
    """An op whose prepare is not here is passed over, and the next one is executed."""
    advance = execution.Execution.advance

    def wrong(self: execution.Execution) -> None:
        state, log = self.state, self.state.log
        advance(self)
        following = state.applying + 2
        if following <= min(state.commit_max, log.head, state.apply_limit) and log.body(following) is not None:
            state.applying += 1
            advance(self)

    patch.set(execution.Execution, "advance", wrong)


@mutant(
    breaks="11: ops have the release of the log (T-32)",
    source="a rolling upgrade whose first upgraded leader speaks what the others do not know",
    expects=("one release", "INV-33"),
)
def order_in_own_release(patch: Patch) -> None:
    """A primary gives its ops the release of its program."""

    def wrong(self: normal.Normal) -> int:
        return self.state.options.release

    patch.set(normal.Normal, "_release_of_log", wrong)
