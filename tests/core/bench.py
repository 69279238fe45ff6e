"""One replica on the bench: its inputs are fed by hand, its outputs lie there to be looked at.

The bench stands in for everything around a core and for nothing inside it: a disk that remembers what was
written and completes it at once or when told to, a state machine that echoes, and a hand that speaks for the
peers. At each Send it checks what the protocol promises of every Send (R-ENV, R-OUT2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tests.core.disk_image import (
    CLUSTER,
    FIRST_VIEW,
    GENESIS,
    DiskImage,
    Kept,
    Written,
    chain,
    checkpoint_at,
    checkpoint_of,
    client,
    disk_of,
    id_at,
    incarnation,
    ordered,
    probe_at,
    register_order,
    state_at,
)
from tests.core.send_check import check_send
from tests.core.statements import envelope, statement
from trio_pb.core.config import Limits, Options, Timeouts
from trio_pb.core.messages import (
    CODE_REGISTER,
    GENESIS_CHECKPOINT,
    NO_PROBE,
    CheckpointId,
    ChunkPiece,
    Commit,
    CommitOk,
    DoViewChange,
    GetChunk,
    Gone,
    PeerMessage,
    Ping,
    Pong,
    Position,
    PrepareCopy,
    PrepareMessage,
    PrepareOk,
    Probe,
    Read,
    ReadMode,
    Reject,
    Reply,
    Request,
    StartView,
    StartViewChange,
    Status,
    ViewChangeReason,
)
from trio_pb.core.ports import (
    Answer,
    Applied,
    Apply,
    FromClient,
    FromPeer,
    Input,
    Output,
    Queried,
    Query,
    Send,
    Tick,
    ToClient,
    Trace,
)
from trio_pb.core.prepare import Prepare, PrepareId
from trio_pb.core.quorum import quorums_of
from trio_pb.core.replica import Replica

__all__ = [
    "CLUSTER",
    "GENESIS",
    "WALL_NS",
    "Bench",
    "DiskImage",
    "Kept",
    "Written",
    "chain",
    "checkpoint_at",
    "checkpoint_of",
    "client",
    "disk_of",
    "echo",
    "envelope",
    "id_at",
    "incarnation",
    "ordered",
    "primary",
    "probe_at",
    "register_order",
    "state_at",
    "statement",
]

T = TypeVar("T")

WALL_NS = 1_700_000_000_000_000_000  # What the wall clocks show at tick 0.
TICK_NS = 10_000_000


def echo(body: bytes) -> bytes:
    """What the bench's state machine answers to a request or read."""
    return b"did " + body


# --- The bench --------------------------------------------------------------------------------------


class Bench:
    """A replica, its disk, and everything it said since the last `clear`."""

    def __init__(
        self,
        disk: DiskImage,
        *,
        auto_disk: bool = True,
        held_back: tuple[type[Written], ...] = (),
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        seed: int = 0,
        release: int = 1,
        release_min: int = 1,
    ) -> None:
        self.disk = disk
        self.auto_disk = auto_disk
        self.scan_cursor = b""  # What the state machine's answers to queries have as their cursor...
        self.query_error = ""  # ... or as their refusal.
        self.held_back = held_back  # Kinds of disk jobs that are not completed by themselves.
        self.options = Options(
            limits=limits or Limits(),
            timeouts=timeouts or Timeouts(),
            seed=seed,
            release=release,
            release_min=release_min,
        )
        self.now = 0
        self.wall_offset_ns = 0
        self.pending: list[Written] = []
        self.outputs: list[Output] = []
        self.late_results = False  # What is applied is not answered by itself.
        self.served = 0  # How much of `log_seen` `serve` has looked at.
        self.log_seen: list[Output] = []  # Everything since the boot, for what must never have been said.
        self.replica = Replica(self.options)
        self.step(disk.start())

    def restart(self, *, auto_disk: bool | None = None) -> None:
        """Crash now, losing every write not completed, and start again from the disk."""
        self.pending.clear()
        self.outputs.clear()
        self.log_seen.clear()
        self.served = 0
        self.now = 0
        self.auto_disk = self.auto_disk if auto_disk is None else auto_disk
        self.replica = Replica(self.options)
        self.step(self.disk.start())

    # --- Looking ------------------------------------------------------------------------------------

    @property
    def id(self) -> int:
        """Who we are."""
        return self.disk.superblock.replica

    @property
    def status(self) -> Status:
        """What it is doing."""
        return self.replica.state.status

    # Questions are methods: a type checker believes that what a property said once stays so.

    def is_in(self, status: Status) -> bool:
        """Whether it is in `status` now."""
        return self.status is status

    def leads(self) -> bool:
        """Whether it is a primary that means to go on."""
        return self.replica.state.is_leading

    def has_abdicated(self) -> bool:
        """Whether it let go for the rest of the view."""
        return self.replica.state.abdicated

    def is_fit(self) -> bool:
        """Whether it may be asked to lead."""
        return self.replica.state.fit

    @property
    def view(self) -> int:
        """Its view."""
        return self.replica.state.view

    @property
    def head(self) -> int:
        """Its head."""
        return self.replica.state.log.head

    @property
    def commit(self) -> int:
        """Its commit point."""
        return self.replica.state.commit_max

    @property
    def applied(self) -> int:
        """What its state machine has executed."""
        return self.replica.state.applied

    @property
    def acked(self) -> int:
        """Its durable watermark."""
        return self.replica.state.acked

    def clear(self) -> None:
        """Forget what was said so far."""
        self.outputs.clear()

    def given(self, kind: type[T]) -> list[T]:
        """Outputs of one kind since the last clear."""
        return [output for output in self.outputs if isinstance(output, kind)]

    def sent(self, kind: type[T], to: int | None = None) -> list[T]:
        """Messages of one kind to peers since the last clear, each once however many it went to."""
        return [
            output.message
            for output in self.given(Send)
            if isinstance(output.message, kind) and (to is None or to in output.replicas)
        ]

    def given_to(self, kind: type[PeerMessage]) -> list[int]:
        """To whom each message of one kind went since the last clear."""
        sends = [output for output in self.given(Send) if isinstance(output.message, kind)]
        return [replica for output in sends for replica in output.replicas]

    def told(self, connection: int | None = None) -> list[Reply | Reject]:
        """What clients were told since the last clear."""
        return [output.message for output in self.given(ToClient) if connection in (None, output.connection)]

    def traced(self, event: str) -> int:
        """How often `event` happened since the last clear."""
        return sum(1 for output in self.given(Trace) if output.event == event)

    def counter(self, name: str) -> int:
        """A counter of the replica."""
        return dict(self.replica.report().counters).get(name, 0)

    def log_ids(self) -> list[PrepareId]:
        """Every identity of its log, genesis excluded."""
        return [self.replica.state.log.id(op) for op in range(1, self.head + 1)]

    def log_ids_above(self) -> list[PrepareId]:
        """Every identity of its log above what it let go of."""
        log = self.replica.state.log
        return [log.id(op) for op in range(log.base.op + 1, log.head + 1)]

    # --- Feeding ------------------------------------------------------------------------------------

    def step(self, *inputs: Input) -> list[Output]:
        """One turn: feed `inputs`, execute what it applies, complete the disk if that is automatic."""
        first = len(self.outputs)
        todo: list[Input] = list(inputs)
        while todo:
            given = self.replica.step(self.now, todo)
            self.outputs += given
            self.log_seen += given
            todo = self._carry_out(given)
            if not todo and self.auto_disk:
                free = [written for written in self.pending if not isinstance(written, self.held_back)]
                self.pending = [written for written in self.pending if isinstance(written, self.held_back)]
                todo = [answer for written in free for answer in self.disk.complete(written)]
        return self.outputs[first:]

    def _carry_out(self, given: Sequence[Output]) -> list[Input]:
        answers: list[Input] = []
        for output in given:
            if isinstance(output, Send):
                check_send(output, self.disk)
            elif isinstance(output, Apply) and not self.late_results:
                answers.append(Applied(output.op, tuple(echo(item.body) for item in output.items)))
            elif isinstance(output, Query):
                cursor, error = self.scan_cursor, self.query_error
                answered = tuple(Answer(item.token, echo(item.body), cursor, error) for item in output.items)
                answers.append(Queried(answered))
            elif isinstance(output, Written):
                self.pending.append(output)
        return answers

    def complete(self, kind: type[Written] | None = None, count: int = 1 << 30) -> list[Output]:
        """Let the oldest `count` pending disk jobs (of one kind) come to their end, each in a step of its own."""
        first = len(self.outputs)
        chosen = [written for written in self.pending if kind is None or isinstance(written, kind)][:count]
        for written in chosen:
            if written in self.pending:  # An automatic disk may have come first.
                self.pending.remove(written)
                self.step(*self.disk.complete(written))
        return self.outputs[first:]

    def tick(self, ticks: int = 1) -> list[Output]:
        """`ticks` pass at once, as after a pause."""
        self.now += ticks
        return self.step(Tick(ticks, WALL_NS + self.wall_offset_ns + self.now * TICK_NS))

    def run(self, ticks: int) -> list[Output]:
        """`ticks` pass one by one."""
        first = len(self.outputs)
        for _ in range(ticks):
            self.tick()
        return self.outputs[first:]

    # --- Speaking for peers -------------------------------------------------------------------------

    def hear(
        self,
        replica: int,
        message: PeerMessage,
        *,
        view: int | None = None,
        op: int | None = None,
        commit: int | None = None,
        boot: int = 2,
    ) -> list[Output]:
        """A frame of `replica`, who is in our view with our head and commit point unless told."""
        said = envelope(
            replica,
            view=self.view if view is None else view,
            op=self.head if op is None else op,
            commit=self.commit if commit is None else commit,
            boot=boot,
        )
        return self.step(FromPeer(said, message))

    def hear_prepare(self, prepare: Prepare, *, commit: int = 0, round_: int = 0) -> list[Output]:
        """The primary of our view sends a prepare."""
        message = PrepareMessage(prepare, self.checksum_at(commit), round_)
        return self.hear(self.view % 1024, message, op=prepare.op, commit=commit)

    def hear_copy(
        self, replica: int, prepare: Prepare, *, is_current: bool = False, view: int | None = None
    ) -> list[Output]:
        """A peer sends a body that was asked for; as the primary of its view, if `is_current`."""
        return self.hear(replica, PrepareCopy(prepare, is_current), view=view)

    def hear_heartbeat(
        self,
        head: PrepareId,
        *,
        commit: int = 0,
        commit_checksum: bytes | None = None,
        round_: int = 0,
        certified: CheckpointId = GENESIS_CHECKPOINT,
    ) -> list[Output]:
        """The primary of our view sends its heartbeat."""
        message = Commit(head.checksum, commit_checksum or self.checksum_at(commit), round_, certified)
        return self.hear(self.view % 1024, message, op=head.op, commit=commit)

    def hear_start_view(
        self,
        log: Sequence[Prepare],
        *,
        view: int,
        base: int = 0,
        nonce: int = 0,
        last_timestamp: int = 0,
        certified: CheckpointId = GENESIS_CHECKPOINT,
    ) -> list[Output]:
        """The primary of `view` tells its log."""
        message = StartView(
            base=id_at(log, base),
            checksums=tuple(prepare.checksum for prepare in log[base:]),
            last_timestamp=last_timestamp,
            certified=certified,
            configuration=self.disk.superblock.configuration,
            pending=None,
            nonce=nonce,
        )
        return self.hear(view % 1024, message, view=view, op=len(log), commit=base)

    def hear_statement(
        self, replica: int, message: DoViewChange, *, head: int | None = None, view: int | None = None, boot: int = 2
    ) -> list[Output]:
        """A peer states its log for our view."""
        op = head if head is not None else (message.head.op if message.head is not None else 0)
        return self.hear(replica, message, op=op, commit=message.commit.op, view=view, boot=boot)

    def hear_wish(
        self, replica: int, target: int, *, sanctioned: bool = False, view: int | None = None
    ) -> list[Output]:
        """A peer wishes for `target`."""
        return self.hear(replica, StartViewChange(target, ViewChangeReason.PRIMARY_SILENT, sanctioned), view=view)

    def ack(
        self,
        *replicas: int,
        op: int | None = None,
        round_: int = 0,
        checkpoint: CheckpointId = GENESIS_CHECKPOINT,
        probe: Probe = NO_PROBE,
    ) -> None:
        """Backups acknowledge everything up to `op` (our head unless told)."""
        for replica in replicas:
            op_acked = self.head if op is None else op
            id_ = PrepareId(op_acked, self.replica.state.log.id(op_acked).checksum)
            self.hear(replica, PrepareOk(id_, round_, checkpoint, probe))

    def answer_heartbeat(self, *replicas: int, round_: int = 0, fit: bool = True) -> None:
        """Backups answer a heartbeat without acknowledging anything."""
        for replica in replicas:
            self.hear(replica, CommitOk(round_, None, GENESIS_CHECKPOINT, NO_PROBE, fit))

    def position(
        self,
        *,
        reach: int = 3,
        fit: bool = True,
        wall_ns: int | None = None,
        checkpoint: CheckpointId = GENESIS_CHECKPOINT,
        certified: CheckpointId = GENESIS_CHECKPOINT,
        probe: Probe = NO_PROBE,
        **other: int,
    ) -> Position:
        """What a healthy peer's ping or pong says now."""
        return Position(
            sequence=other.get("sequence", 0),
            sent_tick=other.get("sent_tick", self.now),
            wall_ns=WALL_NS + self.now * TICK_NS if wall_ns is None else wall_ns,
            status=Status.NORMAL,
            log_view=other.get("log_view", self.view),
            applied=other.get("applied", self.applied),
            commit_checksum=None,
            acked=0,
            wal_low=other.get("wal_low", 1),
            checkpoint=checkpoint,
            certified=certified,
            probe=probe,
            fit=fit,
            reach=reach,
            progress=other.get("progress", 0),
            release_min=1,
            release_max=1,
            configuration=self.disk.superblock.configuration,
            pending=None,
        )

    def pong(
        self, *replicas: int, view: int | None = None, commit: int | None = None, reach: int = 3, fit: bool = True
    ) -> None:
        """Peers answer a ping of this tick: they are alive, and in our view unless told."""
        for replica in replicas:
            self.hear(replica, Pong(self.pong_position(reach=reach, fit=fit)), view=view, commit=commit)

    def pong_position(self, *, reach: int = 3, fit: bool = True, wall_ns: int | None = None) -> Position:
        """What an answer to a ping of this boot and tick says."""
        boot = self.replica.state.boot
        return self.position(reach=reach, fit=fit, wall_ns=wall_ns, sequence=(boot << 32) + 1)

    def tell(
        self,
        *replicas: int,
        checkpoint: CheckpointId = GENESIS_CHECKPOINT,
        certified: CheckpointId = GENESIS_CHECKPOINT,
        probe: Probe = NO_PROBE,
        wal_low: int = 1,
        commit: int | None = None,
        applied: int | None = None,
    ) -> None:
        """Living peers tell of their checkpoints, in pongs."""
        sequence = (self.replica.state.boot << 32) + 1
        said = self.position(
            sequence=sequence,
            checkpoint=checkpoint,
            certified=certified,
            probe=probe,
            wal_low=wal_low,
            applied=self.applied if applied is None else applied,
        )
        for replica in replicas:
            self.hear(replica, Pong(said), commit=commit)

    def serve(self, *kept: Kept, gone: frozenset[int] = frozenset()) -> list[int]:
        """Whoever is asked for chunks has those of `kept`, until nothing more is asked; returns who was."""
        have = {digest: data for it in kept for digest, data in it.chunks.items()}
        asked: list[int] = []
        while self.served < len(self.log_seen):
            output = self.log_seen[self.served]
            self.served += 1
            if isinstance(output, Send) and isinstance(output.message, GetChunk):
                (peer,), wanted = output.replicas, output.message
                asked.append(peer)
                if wanted.digest in have and peer not in gone:
                    self.hear_chunk(peer, wanted, have[wanted.digest])
                else:
                    self.hear(peer, Gone(wanted.digest))
        return asked

    def hear_chunk(self, replica: int, asked: GetChunk, data: bytes) -> list[Output]:
        """A peer sends what was asked for, out of the chunk `data`."""
        piece = data[asked.offset : asked.offset + asked.size]
        return self.hear(replica, ChunkPiece(asked.digest, asked.offset, len(data), piece))

    def ping(
        self, replica: int, *, view: int | None = None, sequence: int = 0, sent_tick: int = 0, progress: int = 0
    ) -> list[Output]:
        """A peer asks how we are."""
        position = self.position(sequence=sequence, sent_tick=sent_tick, progress=progress)
        return self.hear(replica, Ping(position), view=view)

    def checksum_at(self, op: int) -> bytes | None:
        """The prepare at `op` of our log."""
        return self.replica.state.log.checksum(op)

    # --- Speaking for clients -----------------------------------------------------------------------

    def request(
        self, number: int, *, by: int = 1, session: int = 0, body: bytes = b"x", code: int = 2, connection: int = 1
    ) -> list[Output]:
        """A client sends a request over `connection`."""
        return self.step(FromClient(connection, Request(client(by), session, number, code, body)))

    def read(
        self,
        number: int,
        *,
        by: int = 1,
        here: bool = False,
        min_op: int = 0,
        connection: int = 1,
        body: bytes = b"q",
        cursor: bytes = b"",
    ) -> list[Output]:
        """A client sends a read."""
        mode = ReadMode.LINEARIZABLE_HERE if here else ReadMode.LINEARIZABLE
        return self.step(FromClient(connection, Read(client(by), number, 2, body, mode, min_op, cursor)))

    def register(self, *, by: int = 1, backup: int | None = None, connection: int = 1) -> int:
        """At a primary: a client gets a session, acknowledged by as many backups as it takes."""
        self.request(0, by=by, code=CODE_REGISTER, connection=connection)
        self.commit_all() if backup is None else self.ack(backup)
        replies = [answer for answer in self.told(connection) if isinstance(answer, Reply)]
        return replies[-1].session

    def commit_all(self) -> None:
        """At a primary: every backup acknowledges our head."""
        self.ack(*self.replica.state.voters_but_self)


def primary(
    replica: int = 0,
    *,
    voters: int = 3,
    standbys: tuple[int, ...] = (),
    view: int | None = None,
    log: Sequence[Prepare] = (),
    commit: int = 0,
    limits: Limits | None = None,
    timeouts: Timeouts | None = None,
    auto_disk: bool = True,
) -> Bench:
    """Return a bench whose replica has just begun to lead `view` with `log`, committed up to `commit`.

    Nobody is born a primary: it starts in a view change, hears a quorum, installs.
    """
    view = FIRST_VIEW + replica if view is None else view
    disk = disk_of(replica, voters=voters, standbys=standbys, view=view, log_view=0, log=log, commit=commit)
    bench = Bench(disk, limits=limits, timeouts=timeouts)
    bench.tick()  # It has seen a clock.
    others = [other for other in range(voters) if other != replica]
    for other in others[: quorums_of(voters).view_change - 1]:
        bench.hear_statement(other, statement(log, log_view=0, commit=commit))
    assert bench.is_in(Status.NORMAL), "a quorum stated its logs"
    assert bench.leads()
    if not log:
        bench.tell(*others[: quorums_of(voters).view_change - 1])  # The first time of all is not its own clock's alone.
    bench.auto_disk = auto_disk
    bench.clear()
    return bench
