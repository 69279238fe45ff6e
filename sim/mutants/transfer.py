"""Planted bugs: copying a state (PROTOCOL 8.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from sim.mutants.mutant import Patch, mutant
from trio_pb.core import persistence, replica, state_transfer
from trio_pb.core.durable import Install
from trio_pb.core.log import Log
from trio_pb.core.manifest import CoreState
from trio_pb.core.messages import CheckpointId, Ping, Pong
from trio_pb.core.ports import Installed
from trio_pb.core.timeout import NEVER
from trio_pb.storage import packs


@mutant(
    breaks="8.2, step 3",
    source="the end-to-end argument (Saltzer et al., 1984)",
    expects=("INV-20", "INV-21"),
    equivalent="what the disk gives is compared with its digest again, whenever it is read",
    pair="chunk-verified-nowhere",
)
def take_any_chunk(patch: Patch) -> None:
    """What a peer sends for a chunk is not compared with its digest."""
    patch.set(state_transfer, "chunk_digest", _whatever)


class _Anything:
    """Equal to whatever it is compared with."""

    def __eq__(self, _other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def _whatever(_data: bytes) -> _Anything:
    return _Anything()


@mutant(
    breaks="8.2, step 4 (T-28)",
    source="a snapshot and a log that become visible one after the other: etcd",
    expects=("INV-21",),
)
def adopt_at_once(patch: Patch) -> None:
    """A copied state is taken over before the superblock image that says so is durable."""
    finish = state_transfer.StateTransfer.finish_switch

    def wrong(self: state_transfer.StateTransfer) -> None:
        switching = vars(self)["_switching"]
        held: persistence.Persistence = vars(self)["_persistence"]
        durable = held.durable
        if switching is not None and durable is not None:
            held.durable = attrs.evolve(durable, checkpoint=switching.target)
        finish(self)
        held.durable = durable

    patch.set(state_transfer.StateTransfer, "finish_switch", wrong)


@mutant(
    breaks="8.2, step 3: every read of a chunk is verified",
    source="the end-to-end argument (Saltzer et al., 1984)",
    expects=("chunk", "INV-20", "INV-21"),
)
def take_any_stored_chunk(patch: Patch) -> None:
    """What the disk gives for a chunk is not compared with its digest."""
    patch.set(packs, "chunk_digest", _whatever)


@mutant(
    breaks="8.2, step 4: the log above the target stays (T-28)",
    source="Camunda issue 6092: the log is reset to the snapshot",
    expects=("INV-29", "INV-13"),
)
def transfer_discards_the_log(patch: Patch) -> None:
    """A copied state replaces the log above it as well, and what was acknowledged there."""
    finish: Callable[..., None] = vars(state_transfer.StateTransfer)["_finish"]
    switch: Callable[..., None] = vars(state_transfer.StateTransfer)["_switch"]

    def forgetful(self: state_transfer.StateTransfer, ready: Installed) -> None:
        switch(self, ready)
        insides = vars(self)
        if insides["_switching"] is not None:
            insides["_is_new_log"] = True
            held: persistence.Persistence = insides["_persistence"]
            core = ready.state
            held.change(
                install=Install(base=core.id, ack_floor=core.op, proof_base=held.last_proof_sequence()),
            )

    def wrong(self: state_transfer.StateTransfer, target: CheckpointId, core: CoreState) -> None:
        self.state.log = Log(core.id)
        finish(self, target, core)

    patch.set(state_transfer.StateTransfer, "_switch", forgetful)
    patch.set(state_transfer.StateTransfer, "_finish", wrong)


@mutant(
    breaks="8.2: whoever lags copies (T-29)",
    source="Camunda issue 4451: a follower that is too far behind for ever",
    expects=("INV-33",),
)
def never_copy_state(patch: Patch) -> None:
    """A replica whose log was freed by all others waits for it."""

    def wrong(_self: state_transfer.StateTransfer) -> bool:
        return False

    patch.set(state_transfer.StateTransfer, "_is_needed", wrong)


@mutant(
    breaks="8.2, step 4: a target of a later view waits",
    source="found by a model of the protocol while it was written",
    expects=("INV-2", "INV-29", "INV-7", "provenance", "INV-33"),
    equivalent=(
        "whoever has a checkpoint learned of its commit in the view that committed it or in a later one, which is on "
        "its disk before it tells; and we ask nobody of whom no ping told that he has one, which took us into his view "
        "(a certificate alone may be told of an older view, but says of nobody that he has the checkpoint; the image "
        "of the view that we are taken into is written before what is copied in it)"
    ),
    pair="copy-from-a-later-view",
)
def copy_ahead_of_the_view(patch: Patch) -> None:
    """A checkpoint is installed although our view has not heard of its op yet."""
    switch: Callable[..., None] = vars(state_transfer.StateTransfer)["_switch"]

    def wrong(self: state_transfer.StateTransfer, ready: Installed) -> None:
        heard = self.state.commit_heard
        self.state.commit_heard = max(heard, ready.state.op)
        switch(self, ready)
        self.state.commit_heard = heard

    patch.set(state_transfer.StateTransfer, "_switch", wrong)


@mutant(
    breaks="8.2, step 4, and R-JOIN (6.2): who is ahead in a later view is followed there first",
    source="found by a model of the protocol while it was written",
    expects=("INV-7", "INV-29", "INV-2", "provenance", "INV-33"),
)
def copy_from_a_later_view(patch: Patch) -> None:
    """Pings lead nobody into a later view, and a checkpoint is installed although ours has not heard of its op yet."""
    told: frozenset[type] = vars(replica)["_VIEW_TELLING"]
    patch.set(replica, "_VIEW_TELLING", told - {Ping, Pong})
    copy_ahead_of_the_view(patch)


@mutant(
    breaks="8.2: a piece that does not come is asked for again",
    source="Raft's InstallSnapshot: a lost chunk",
    expects=("INV-33", "INV-35"),
)
def pieces_are_asked_for_once(patch: Patch) -> None:
    """A piece of a checkpoint that got lost is waited for."""
    ask: Callable[..., bool] = vars(state_transfer.StateTransfer)["_ask"]

    def wrong(self: state_transfer.StateTransfer, fetch: Any) -> bool:
        asked = ask(self, fetch)
        if asked:
            fetch.due_tick = NEVER
        return asked

    patch.set(state_transfer.StateTransfer, "_ask", wrong)


@mutant(
    breaks="8.2, step 3",
    source="the end-to-end argument (Saltzer et al., 1984)",
    expects=("chunk", "INV-20", "INV-21", "INV-35"),
)
def chunk_verified_nowhere(patch: Patch) -> None:
    """Chunks are compared with their digests neither when they come from a peer nor when the disk gives them."""
    take_any_chunk(patch)
    take_any_stored_chunk(patch)
