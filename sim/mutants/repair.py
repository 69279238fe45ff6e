"""Planted bugs: fetching and serving prepares (PROTOCOL 8.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from sim.mutants.mutant import Patch, mutant
from trio_pb.core import normal, persistence, repair
from trio_pb.core.messages import Envelope, GetIds, Ids, PrepareCopy
from trio_pb.core.prepare import Prepare, PrepareId


@mutant(
    breaks="the null-sum rule (3.2, T-37)",
    source="found by argument while the protocol was written",
    expects=("provenance", "INV-7"),
)
def take_any_copy(patch: Patch) -> None:
    """A copy extends the log, of whatever view it is and whoever vouches for it."""
    take_prepare: Callable[[normal.Normal, Prepare], None] = vars(normal.Normal)["_take_prepare"]
    take: Callable[[normal.Normal, Envelope, PrepareCopy], None] = normal.Normal.on_prepare_copy

    def wrong(self: normal.Normal, envelope: Envelope, message: PrepareCopy) -> None:
        if self.state.is_backup and message.prepare.op == self.state.log.head + 1:
            take_prepare(self, message.prepare)
        else:
            take(self, envelope, message)

    patch.set(normal.Normal, "on_prepare_copy", wrong)


@mutant(
    breaks="8.1", source="a bug of this code, found by a sweep: hundreds of copies a second", expects=("copy storm",)
)
def ask_for_what_is_kept(patch: Patch) -> None:
    """A backup asks for everything above a gap, also for what waits in its memory for the gap to close."""
    ask: Callable[[repair.Repair, set[int]], None] = vars(repair.Repair)["_ask_above_head"]

    def wrong(self: repair.Repair, in_flight: set[int]) -> None:
        kept, self.ahead = self.ahead, {}
        ask(self, in_flight)
        self.ahead = kept

    patch.set(repair.Repair, "_ask_above_head", wrong)


@mutant(breaks="8.1, INV-30 (T-31)", source="a slip found in this code", expects=("INV-30",))
def ask_one_by_one(patch: Patch) -> None:
    """Every missing body has a request of its own, however many there are."""
    ask: Callable[[repair.Repair], None] = vars(repair.Repair)["_ask_bodies"]

    def wrong(self: repair.Repair) -> None:
        limits = self.state.options.limits
        self.state.limits = attrs.evolve(limits, repair_requests_max=64, repair_wanted_max=1)
        ask(self)
        self.state.limits = limits

    patch.set(repair.Repair, "_ask_bodies", wrong)


@mutant(
    breaks="R-IDS (8.1)",
    source="found by argument while the protocol was written",
    expects=("INV-25",),
)
def tell_what_is_not_committed(patch: Patch) -> None:
    """Identities above the commit point are told as if they were settled."""

    def wrong(self: repair.Repair, envelope: Envelope, message: GetIds) -> None:
        log = self.state.log
        low, high = max(message.low, log.base.op + 1), log.head
        if low <= high and log.is_identified(low, high):
            told = Ids(low, tuple(log.id(op).checksum for op in range(low, high + 1)))
            self.state.send((envelope.replica,), told)

    patch.set(repair.Repair, "on_get_ids", wrong)


@mutant(
    breaks="8.1: a repaired body is written again",
    source="TigerBeetle: a repaired block that lives in the cache only",
    expects=("INV-33", "INV-35"),
)
def repaired_in_memory_only(patch: Patch) -> None:
    """A body that was fetched from a peer is not written to the own disk."""
    take = repair.Repair.take

    def wrong(self: repair.Repair, prepare: Prepare) -> bool:
        held: persistence.Persistence = vars(self)["_persistence"]
        queued: list[Prepare] = vars(held)["_queued"]
        before = len(queued)
        taken = take(self, prepare)
        del queued[before:]
        return taken

    patch.set(repair.Repair, "take", wrong)


@mutant(
    breaks="8.1: a request runs out",
    source="Raft homework: a lost reply that is waited for",
    expects=("INV-33",),
)
def wait_for_ever(patch: Patch) -> None:
    """Whoever was asked for a body is waited for, however long."""

    def wrong(_self: repair.Repair) -> None:
        return

    patch.set(repair.Repair, "_give_up_late", wrong)


@mutant(
    breaks="8.1: what a peer may take in a period (T-31)",
    source="a quota that is counted and never given back",
    expects=("INV-33",),
)
def credit_never_returns(patch: Patch) -> None:
    """A peer gets no more than one period's share of repair, for good."""
    serve = repair.Repair.may_serve

    def wrong(self: repair.Repair, peer: int, size: int) -> bool:
        known = vars(self)["_serving"].get(peer)
        if known is not None:
            known.period_start_tick = self.state.now_tick
        return serve(self, peer, size)

    patch.set(repair.Repair, "may_serve", wrong)


@mutant(
    breaks="8.1: the sources of a body",
    source="a bug of this code, found by a sweep: two that lack an op asked each other",
    expects=("turns", "INV-33", "INV-35"),
)
def ask_one_peer_only(patch: Patch) -> None:
    """What is missing is always asked of the same peer, whether it has it or not."""

    def wrong(_self: repair.Repair, sources: Sequence[int], _op: int) -> int:
        return min(sources)

    patch.set(repair.Repair, "_pick", wrong)


@mutant(
    breaks="7.5: a fault is repaired",
    source="Alagappan et al., FAST'18: damage that is seen and left",
    expects=("INV-35", "INV-33"),
)
def unreadable_is_ignored(patch: Patch) -> None:
    """A record that turns out unreadable stays on the list of those that are held."""

    def wrong(_self: repair.Repair, _id: PrepareId) -> None:
        return

    patch.set(repair.Repair, "lose", wrong)
