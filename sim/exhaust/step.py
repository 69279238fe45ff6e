"""One replica of the shipped core takes a step, and its disk and its state machine take part (PROTOCOL 4.1).

Time stands still at one tick. A timer fires because the world says so, whatever its length: safety rests on no
clock (G4), so every order in which timers can fire is one that may happen. What a driver does in the same turn of its
loop, and what cannot fail between, is done here at once: applied ops are answered, records are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import attrs

from sim.exhaust.canonical import Entries
from sim.exhaust.disk import Disk
from sim.exhaust.promises import check_promise
from sim.oracles.facts import violate
from trio_pb.core.messages import Commit, PrepareMessage, Reply, StartView, StartViewChange, ViewChangeReason
from trio_pb.core.ports import (
    Applied,
    Apply,
    ApplyItem,
    Fatal,
    FromPeer,
    Input,
    Output,
    Send,
    SuperblockDone,
    SuperblockWrite,
    Tick,
    ToClient,
    Trace,
    WalAppend,
    WalDone,
    WalRead,
    WalReadDone,
)
from trio_pb.core.prepare import PrepareId
from trio_pb.core.replica import Replica
from trio_pb.core.timeout import Timeout

__all__ = [
    "NOW_TICK",
    "Acting",
    "Applies",
    "Commits",
    "Leads",
    "Leaves",
    "News",
    "Orders",
    "Replies",
    "Starts",
]

NOW_TICK = 1  # Always.


# --- What the others' oracles must know of a step --------------------------------------------------


class Commits(NamedTuple):
    """A replica takes everything up to this entry for committed."""

    entry: PrepareId


class Applies(NamedTuple):
    """A state machine executes these requests."""

    op: int
    items: tuple[ApplyItem, ...]


class Replies(NamedTuple):
    """A client hears that its request was executed."""

    client: bytes
    number: int
    op: int


class Starts(NamedTuple):
    """A primary tells with which log its view begins."""

    view: int
    base: PrepareId
    checksums: tuple[bytes, ...]


class Orders(NamedTuple):
    """A primary gives an op an entry."""

    view: int
    op: int
    checksum: bytes


class Leads(NamedTuple):
    """A replica leads a view, in this boot."""

    view: int
    boot: int


class Leaves(NamedTuple):
    """A replica can never again be in a view below this one, be there a crash."""

    view: int


News: TypeAlias = "Commits | Applies | Replies | Starts | Orders | Leads | Leaves"


class Acting:
    """A replica in the middle of a move, together with its disk; what it says and does is noted."""

    def __init__(self, number: int, replica: Replica, disk: Disk, entries: Entries, told_commit: int = 0) -> None:
        self.number = number
        self.replica = replica
        self.disk = disk
        self.told_commit = told_commit  # As primary: how far it told that everything is committed.
        self.sent: list[Send] = []
        self.news: list[News] = []
        self._entries = entries
        self._commit_known = replica.state.commit_known

    # --- Moves ------------------------------------------------------------------------------------

    def take(self, *inputs: Input) -> None:
        """Take inputs, and everything that follows from them at once.

        Raises:
            Violation: a promise is broken, or the replica stops.
        """
        waiting: tuple[Input, ...] = inputs
        while waiting:
            follow: list[Input] = []
            for output in self.replica.step(NOW_TICK, waiting):
                follow += self._carry_out(output)
            waiting = tuple(follow)
        state = self.replica.state
        if state.commit_known != self._commit_known:
            self._commit_known = state.commit_known
            self.news.insert(0, Commits(state.commit_known))  # What is executed in this move was committed before.
        if state.is_primary:
            self.news.append(Leads(state.view, state.boot))

    def append_done(self) -> None:
        """The oldest append is durable."""
        sequence = self.disk.appends[0].sequence
        self.disk = self.disk.append_done()
        self.take(WalDone(sequence))

    def image_done(self) -> None:
        """The superblock image is durable."""
        assert self.disk.image is not None
        sequence = self.disk.image.sequence
        before, self.disk = self.disk.superblock.view, self.disk.image_done()
        if self.disk.superblock.view > before:
            self.news.append(Leaves(self.disk.superblock.view))
        self.take(SuperblockDone(sequence))

    def start(self) -> None:
        """Boot, up to where this boot's number is durable: before that nobody is heard, and nothing is said."""
        self._commit_known = self.replica.state.commit_known
        self.take(self.disk.start())
        self.image_done()
        for peer in self.replica.peers.table.values():  # Everybody answers its first ping.
            peer.pong_tick, peer.fit, peer.reach = NOW_TICK, True, len(self.replica.peers.table) + 1

    def fire(self, timer: Timeout) -> None:
        """One timer is due."""
        timer.deadline_tick = NOW_TICK
        self.take(Tick(1, 0))

    def heartbeat(self) -> None:
        """A primary that has been answered lately speaks."""
        self.replica.peers.forgive_silence()
        self.fire(self.replica.normal.heartbeat_timeout)

    def wished(self, view: int) -> None:
        """Hear that all others wish for a view."""
        said = StartViewChange(view, ViewChangeReason.PRIMARY_SILENT, False)
        mine, pins = self.replica.state.envelope(), dict(self.disk.superblock.pinned)
        self.take(
            *[
                FromPeer(attrs.evolve(mine, replica=voter, incarnation=pins[voter][:8]), said)
                for voter in self.replica.state.voters_but_self
            ]
        )

    # --- Outputs ----------------------------------------------------------------------------------

    def _carry_out(self, output: Output) -> Sequence[Input]:
        """Return what comes of it at once."""
        match output:
            case Send():
                check_promise(self.number, self.disk, output, self._entries)
                self.sent.append(output)
                self._note(output)
            case WalAppend():
                for prepare in output.prepares:
                    self._entries.learn(prepare)
                self.disk = attrs.evolve(self.disk, appends=(*self.disk.appends, output))
            case SuperblockWrite():
                assert self.disk.image is None, "one image at a time"
                self.disk = attrs.evolve(self.disk, image=output)
            case WalRead():
                return [WalReadDone(output.id, self.disk.read(output.id))]
            case Apply():
                self.news.append(Applies(output.op, output.items))
                return [Applied(output.op, (b"",) * len(output.items))]
            case ToClient():
                answer = output.message
                if isinstance(answer, Reply):
                    self.news.append(Replies(answer.client, answer.number, answer.op))
            case Fatal():
                violate("fatal", f"R{self.number} stops: {output.text}")
            case Trace():
                pass
            case _:
                raise AssertionError(f"not in a small world: {output}")
        return ()

    def _note(self, send: Send) -> None:
        """What a primary says is judged against what everybody did."""
        view, message = send.envelope.view, send.message
        if isinstance(message, PrepareMessage):
            prepare = message.prepare
            self._entries.learn(prepare)
            self.news.append(Orders(view, prepare.op, prepare.checksum))
        elif isinstance(message, StartView):
            self.told_commit = message.base.op
            self.news.append(Starts(view, message.base, message.checksums))
        elif isinstance(message, Commit):
            self.told_commit = send.envelope.commit
