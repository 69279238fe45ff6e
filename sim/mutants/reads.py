"""Planted bugs: reads (PROTOCOL 10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from sim.mutants.client import never_ask_again
from sim.mutants.mutant import Patch, mutant
from trio_pb.app import snapshots
from trio_pb.core import reads
from trio_pb.core.messages import Read, ReadIndexOk
from trio_pb.core.timeout import NEVER


@mutant(breaks="10.1 (c)", source="Jepsen, redis-raft 2020, etcd 2014: stale reads", expects=("INV-23", "INV-22"))
def unconfirmed_reads(patch: Patch) -> None:
    """A primary answers reads without a round."""
    wait: Callable[..., None] = vars(reads.Reads)["_wait"]

    def wrong(self: reads.Reads, **fields: object) -> None:
        wait(self, **fields)
        newest = vars(self)["_waiting"][-1]
        newest.confirmed_op = newest.min_op

    patch.set(reads.Reads, "_wait", wrong)


@mutant(breaks="10.1 (c)", source="Raft dissertation 6.4, step 3", expects=("INV-23", "INV-22"))
def round_before_the_read(patch: Patch) -> None:
    """A round that began before the read came confirms it as well."""
    wait: Callable[..., None] = vars(reads.Reads)["_wait"]

    def wrong(self: reads.Reads, **fields: object) -> None:
        wait(self, **fields)
        newest = vars(self)["_waiting"][-1]
        newest.round = max(1, self.round)

    patch.set(reads.Reads, "_wait", wrong)


@mutant(breaks="10.2", source="ZooKeeper's reads at followers, taken for linearizable", expects=("INV-23", "INV-22"))
def reads_without_an_index(patch: Patch) -> None:
    """A backup answers from where it is, and does not ask the primary how far that must be."""
    wait: Callable[..., None] = vars(reads.Reads)["_wait_at_backup"]

    def wrong(self: reads.Reads, connection: int, read: Read) -> None:
        wait(self, connection, read)
        newest = vars(self)["_waiting"][-1]
        newest.confirmed_op = newest.min_op

    patch.set(reads.Reads, "_wait_at_backup", wrong)


@mutant(
    breaks="10.1 (a) and (b) (T-10, T-38)",
    source="etcd and TiKV: ReadIndex before the first commit of a new leader",
    expects=("INV-23", "INV-22"),
)
def read_before_own_view(patch: Patch) -> None:
    """A new primary reads at what it knows committed, which may be less than the one before had answered."""
    wait: Callable[..., None] = vars(reads.Reads)["_wait"]

    def wrong(self: reads.Reads, **fields: Any) -> None:
        state = self.state
        head, state.start_view_head = state.start_view_head, 0
        wait(self, **fields)
        state.start_view_head = head

    patch.set(reads.Reads, "_wait", wrong)


@mutant(
    breaks="3.2: tokens are not used again (T-38)",
    source="the nonce of VR Revisited 4.3",
    expects=("INV-23", "INV-22"),
)
def read_tokens_are_used_again(patch: Patch) -> None:
    """An answer to a question of an earlier boot, or of another view, passes for one to ours."""
    hear = reads.Reads.on_read_index_ok

    def wrong(self: reads.Reads, message: ReadIndexOk) -> None:
        hear(self, attrs.evolve(message, boot=self.state.boot))

    patch.set(reads.Reads, "on_read_index_ok", wrong)


@mutant(
    breaks="10.2: applied >= op",
    source="MongoDB and CockroachDB follower reads ahead of what was applied",
    expects=("INV-23", "INV-22"),
)
def read_before_applying(patch: Patch) -> None:
    """A read is answered as soon as its position is known, before that is executed here."""
    answer: Callable[[reads.Reads], None] = vars(reads.Reads)["_answer_ready"]

    def wrong(self: reads.Reads) -> None:
        for waiting in vars(self)["_waiting"]:
            if waiting.confirmed_op is not None and waiting.read is not None:
                waiting.confirmed_op = min(waiting.confirmed_op, self.state.applying)
        answer(self)

    patch.set(reads.Reads, "_answer_ready", wrong)


@mutant(
    breaks="10.5: all pages are of one op",
    source="cursors over live tables: DynamoDB scans",
    expects=("INV-24",),
)
def pages_of_the_present(patch: Patch) -> None:
    """The next page of a scan shows the state as it is by then."""
    resume: Callable[..., tuple[snapshots.Snapshot[Any], int]] = vars(snapshots.Snapshots)["resume"]
    ask: Callable[..., None] = vars(reads.Reads)["_query"]

    def newest(
        self: snapshots.Snapshots[Any], cursor: bytes, *, purpose: int, now_tick: int
    ) -> tuple[snapshots.Snapshot[Any], int]:
        snapshot, last_key = resume(self, cursor, purpose=purpose, now_tick=now_tick)
        everything = list(vars(self)["_open"].values())
        return max(everything, key=lambda it: it.op) if everything else snapshot, last_key

    def wrong(self: reads.Reads, queries: list[tuple[int, Read, bytes]], op: int) -> None:
        ask(self, queries, max(op, self.state.applying) if queries[0][2] else op)

    patch.set(snapshots.Snapshots, "resume", newest)
    patch.set(reads.Reads, "_query", wrong)


@mutant(
    breaks="10.1 (c): echoes are of this view",
    source="etcd pull request 12762 and its like: read contexts of an old term",
    expects=("INV-23", "INV-22"),
)
def echoes_of_an_older_view(patch: Patch) -> None:
    """Rounds begin anew with every view, and echoes of an older one count."""
    drop = reads.Reads.drop_all

    def wrong(self: reads.Reads) -> None:
        insides = vars(self)
        echoed = dict(insides["_echoed"])
        drop(self)
        insides["_echoed"].update(echoed)
        self.round = 0

    patch.set(reads.Reads, "drop_all", wrong)


@mutant(
    breaks="10.2: what is not answered is asked again",
    source="a lost message that is waited for",
    expects=("INV-33",),
    equivalent="a client that waits too long asks again, somebody else in the end",
    pair="index-and-client-ask-once",
)
def ask_for_the_index_once(patch: Patch) -> None:
    """A backup that gets no answer to its read_index does not ask again."""
    advance: Callable[[reads.Reads], None] = vars(reads.Reads)["_advance_at_backup"]

    def wrong(self: reads.Reads) -> None:
        advance(self)
        if self.index_timeout.running:
            self.index_timeout.deadline_tick = NEVER - 1

    patch.set(reads.Reads, "_advance_at_backup", wrong)


@mutant(
    breaks="10.2 and 5.4: who does not answer is asked again",
    source="a lost message that is waited for",
    expects=("INV-33",),
)
def index_and_client_ask_once(patch: Patch) -> None:
    """Neither a backup asks again for its position, nor a client for its answer."""
    ask_for_the_index_once(patch)
    never_ask_again(patch)
