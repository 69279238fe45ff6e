"""Doctored facts for oracles to judge: three disks, a few prepares, and messages about them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sim.oracles.facts import Facts, Violation
from sim.oracles.watch import Oracle, Watch
from trio_pb.core import messages as m
from trio_pb.core.config import Options
from trio_pb.core.durable import Install, Proof, Superblock
from trio_pb.core.log import Log
from trio_pb.core.ports import Apply, ApplyItem, Requires, Send, WalAppend
from trio_pb.core.prepare import OrderedRequest, Prepare, build, genesis
from trio_pb.core.state import State

__all__ = [
    "GENESIS",
    "ONE",
    "OTHER_ONE",
    "TWO",
    "VIEW",
    "World",
    "apply_of",
    "do_view_change",
    "fresh_state",
    "image",
    "prepare_at",
    "prepare_message",
    "prepare_ok",
    "start_view",
    "violates",
]

CLUSTER = bytes(range(16))
GENESIS = genesis(CLUSTER)
VIEW = 1
CONFIGURATION = m.Configuration(0, (0, 1, 2))


def image(replica: int, view: int = VIEW, log_view: int = VIEW, install: Install | None = None) -> Superblock:
    """The superblock of a replica that installed the log of `log_view`."""
    return Superblock(
        cluster=CLUSTER,
        replica=replica,
        incarnation=bytes(16),
        boot=1,
        born=True,
        view=view,
        log_view=log_view,
        install=install or Install(base=GENESIS.id),
        commit=GENESIS.id,
        configuration=CONFIGURATION,
        pinned=(),
    )


def prepare_at(
    op: int, parent: Prepare, *, timestamp: int = 0, view: int = VIEW, requests: list[OrderedRequest] | None = None
) -> Prepare:
    """A prepare on top of `parent`."""
    return build(
        cluster=CLUSTER,
        epoch=0,
        view=view,
        op=op,
        parent=parent.checksum,
        commit=0,
        timestamp=timestamp or op * 1000,
        requests=requests or [],
        release=1,
    )


ONE = prepare_at(1, GENESIS)
TWO = prepare_at(2, ONE)
OTHER_ONE = prepare_at(1, GENESIS, timestamp=5)


class World:
    """Doctored facts: three disks in view 1, and one oracle that looks on."""

    def __init__(self, make: Callable[[Facts], Oracle], *, is_beyond: bool = False) -> None:
        self.facts = Facts(CLUSTER, [image(0), image(1), image(2)])
        self.watch = Watch(self.facts, [make(self.facts)], is_beyond=is_beyond)
        for prepare in (ONE, TWO, OTHER_ONE):
            self.facts.register(prepare)

    def send(
        self, replica: int, message: m.PeerMessage, *, view: int = VIEW, op: int = 9, requires: Requires | None = None
    ) -> None:
        """A message leaves."""
        envelope = m.Envelope(
            cluster=CLUSTER,
            replica=replica,
            incarnation=bytes(8),
            boot=1,
            epoch=0,
            view=view,
            op=op,
            commit=0,
            release=1,
        )
        self.watch.send(replica, Send((2,), envelope, message, requires or Requires(0, 0, 0)))

    def make_durable(self, replica: int, *prepares: Prepare, proof: bool = True) -> None:
        """Records, and a proof of the last, are on the disk."""
        acked = prepares[-1]
        promise = Proof((1 << 32) + acked.op, VIEW, acked.op, acked.checksum, GENESIS.id) if proof else None
        self.watch.append(replica, WalAppend(acked.op, prepares, promise))
        self.watch.append_done(replica, acked.op)

    def commit(self, replica: int, prepare: Prepare) -> None:
        """A replica takes a prepare for committed."""
        state = fresh_state()
        state.commit_max, state.commit_known = prepare.op, prepare.id
        self.watch.step(replica, state)


def prepare_message(prepare: Prepare) -> m.PrepareMessage:
    """The primary sends it."""
    return m.PrepareMessage(prepare, None, 0)


def prepare_ok(prepare: Prepare) -> m.PrepareOk:
    """It is acknowledged."""
    return m.PrepareOk(prepare.id, 0, m.GENESIS_CHECKPOINT, m.NO_PROBE)


def start_view(*prepares: Prepare, base: Prepare = GENESIS) -> m.StartView:
    """A view begins with these above `base`."""
    return m.StartView(
        base=base.id,
        checksums=tuple(prepare.checksum for prepare in prepares),
        last_timestamp=0,
        certified=m.GENESIS_CHECKPOINT,
        configuration=CONFIGURATION,
        pending=None,
        nonce=0,
    )


def do_view_change(*entries: m.LogEntry, log_view: int = VIEW) -> m.DoViewChange:
    """A log is offered."""
    return m.DoViewChange(
        log_view=log_view,
        head=None,
        commit=GENESIS.id,
        entries=entries,
        last_timestamp=0,
        checkpoint=m.GENESIS_CHECKPOINT,
        certified=m.GENESIS_CHECKPOINT,
        wal_low=1,
        configuration=CONFIGURATION,
        pending=None,
    )


def fresh_state() -> State:
    """A core at the beginning of our cluster's log."""
    state = State(Options())
    state.log = Log(GENESIS.id)
    state.commit_known = GENESIS.id
    return state


def apply_of(op: int, timestamp: int = 1, items: tuple[ApplyItem, ...] = ()) -> Apply:
    """An execution of `op`."""
    return Apply(op, timestamp, 1, items)


def violates(rule: str) -> pytest.RaisesExc[Violation]:
    """What is done under this breaks the promise that `rule` names."""
    return pytest.RaisesExc(Violation, check=lambda violation: violation.rule == rule)
