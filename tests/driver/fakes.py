"""Small stand-ins for the rooms that the driver wires together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from hashlib import blake2b

import trio

from trio_pb.codec.wire import Message
from trio_pb.core.config import Limits
from trio_pb.core.durable import Install, Scan, Superblock
from trio_pb.core.messages import (
    GENESIS_CHECKPOINT,
    NO_PROBE,
    CommitOk,
    Configuration,
    Envelope,
    PeerMessage,
    Status,
)
from trio_pb.core.ports import Input, Output, Report, Requires, Send, Start, Tick
from trio_pb.core.prepare import genesis
from trio_pb.driver.inbox import Inbox
from trio_pb.driver.incoming import Incoming
from trio_pb.driver.reception import Reception
from trio_pb.driver.tcp import Dial, dial_tcp
from trio_pb.driver.transport import Transport
from trio_pb.errors import RemoteProtocolError, StorageError
from trio_pb.storage.disk import Flush, Job, Step
from trio_pb.storage.work import CheckpointClaimed, CheckpointWritten, Completion, InstallReadDone, Work

CLUSTER = b"c" * 16
INCARNATION = b"i" * 16
REQUIRES_NOTHING = Requires(0, 0, 0)


def make_superblock(*, view: int = 0, log_view: int = 0, ack_floor: int = 0, proof_base: int = 0) -> Superblock:
    """The image of replica 0 in a cluster of three."""
    anchor = genesis(CLUSTER).id
    return Superblock(
        cluster=CLUSTER,
        replica=0,
        incarnation=INCARNATION,
        boot=1,
        born=True,
        view=view,
        log_view=log_view,
        install=Install(base=anchor, ack_floor=ack_floor, proof_base=proof_base),
        commit=anchor,
        configuration=Configuration(0, (0, 1, 2)),
        pinned=(),
    )


def make_start() -> Start:
    """What opening the storage of a new replica finds."""
    return Start(make_superblock(), Scan(None, has_log=True, records=()))


def make_envelope(replica: int, *, view: int = 0, cluster: bytes = CLUSTER) -> Envelope:
    """An envelope of a peer."""
    return Envelope(
        cluster=cluster, replica=replica, incarnation=b"p" * 8, boot=1, epoch=0, view=view, op=0, commit=0, release=1
    )


def make_message(round_: int) -> CommitOk:
    """A small peer message that carries a number to know it by."""
    return CommitOk(round=round_, acked=None, checkpoint=GENESIS_CHECKPOINT, probe=NO_PROBE, fit=True)


def make_send(message: PeerMessage, *replicas: int, requires: Requires = REQUIRES_NOTHING) -> Send:
    """A Send of replica 0 to `replicas`."""
    return Send(replicas, make_envelope(0), message, requires)


class FakeCore:
    """Answers each step by a script: a function from inputs, Ticks left out, to outputs."""

    def __init__(self, script: Callable[[list[Input]], list[Output]] | None = None) -> None:
        self.script = script
        self.steps: list[list[Input]] = []
        self.next_deadline_tick = 1 << 40
        self.applied = 0
        self.commit = 0

    @property
    def inputs(self) -> list[Input]:
        """All inputs of all steps."""
        return [one for step in self.steps for one in step]

    def step(self, now_tick: int, inputs: Sequence[Input]) -> list[Output]:
        """Note the inputs; answer as scripted."""
        del now_tick
        self.steps.append(list(inputs))
        return self.script([one for one in inputs if type(one) is not Tick]) if self.script else []

    def report(self) -> Report:
        """Replica 0 of three, primary of view 1024."""
        return Report(
            cluster=CLUSTER,
            replica=0,
            incarnation=INCARNATION,
            boot=1,
            status=Status.NORMAL,
            is_primary=True,
            primary=0,
            view=0,
            log_view=0,
            head=self.commit,
            commit=self.commit,
            applied=self.applied,
            acked=0,
            checkpoint=0,
            certified=0,
            wal_low=1,
            unfit=(),
            configuration=Configuration(0, (0, 1, 2)),
            peers=(),
            counters=(("core_steps", len(self.steps)),),
            release=1,
        )


class FakeFrozen:
    """A state of one chunk for each body, never known."""

    def __init__(self, bodies: list[bytes], on_encode: Callable[[], None]) -> None:
        self._bodies = bodies
        self._on_encode = on_encode
        self.is_released = False

    @property
    def places(self) -> Sequence[int]:
        """One for each body."""
        return range(len(self._bodies))

    def known(self, place: int) -> tuple[bytes, int] | None:
        """Nothing is."""
        del place
        return None

    def encode(self, place: int) -> bytes:
        """The body."""
        self._on_encode()
        return self._bodies[place]

    def release(self) -> None:
        """Remember."""
        self.is_released = True


class FakeRestoring:
    """The bodies of a state to come."""

    def __init__(self, is_restorable: bool) -> None:
        self.bodies: list[bytes] = []
        self._is_restorable = is_restorable

    def put(self, place: int, data: bytes) -> None:
        """In order; RemoteProtocolError when nothing is restorable."""
        if not self._is_restorable:
            raise RemoteProtocolError("not a body")
        assert place == len(self.bodies)
        self.bodies.append(data)

    def finish(self) -> None:
        """Any bodies go together."""


class FakeMachine:
    """Remembers what it executed; a result is the body, turned round."""

    def __init__(self) -> None:
        self.executed: list[bytes] = []
        self.frozen: list[FakeFrozen] = []
        self.on_encode: Callable[[], None] = lambda: None  # Called for each chunk of a checkpoint.
        self.is_restorable = True
        self.unprepared = 0  # Slices of preparing the digest.

    def freeze(self) -> FakeFrozen:
        """What was executed so far."""
        self.frozen.append(FakeFrozen(list(self.executed), self.on_encode))
        return self.frozen[-1]

    def restoring(self) -> FakeRestoring:
        """Nothing yet."""
        return FakeRestoring(self.is_restorable)

    def adopt(self, restoring: FakeRestoring, op: int) -> None:
        """As if it had been executed here."""
        del op
        self.executed = restoring.bodies

    def apply(self, op: int, timestamp: int, items: Sequence[tuple[int, bytes, int, bytes]]) -> tuple[bytes, ...]:
        """Execute a batch."""
        del op, timestamp
        self.executed += [body for _index, _client, _code, body in items]
        return tuple(body[::-1] for _index, _client, _code, body in items)

    def query(
        self, op: int, now_tick: int, items: Sequence[tuple[int, int, int, bytes, bytes]]
    ) -> tuple[tuple[int, bytes, bytes, str], ...]:
        """Answer with how much was executed."""
        del op, now_tick
        return tuple((token, b"%d" % len(self.executed), b"", "") for token, *_rest in items)

    def prepare_digest(self, pieces: int) -> bool:
        """As many calls as `unprepared` says."""
        assert pieces > 0
        self.unprepared = max(0, self.unprepared - 1)
        return self.unprepared == 0

    def digest(self) -> bytes:
        """Of everything executed."""
        return blake2b(b"|".join(self.executed), digest_size=32).digest()


def all_for_core(done: Sequence[Completion]) -> list[Input]:
    """Sift where nobody writes checkpoints."""
    inputs: list[Input] = []
    for one in done:
        assert not isinstance(one, CheckpointClaimed | CheckpointWritten | InstallReadDone)
        inputs.append(one)
    return inputs


class FakeStore:
    """Queues outputs; a job flushes once and completes as `complete` says."""

    def __init__(self, complete: Callable[[Work], Completion]) -> None:
        self._complete = complete
        self._queue: list[Work] = []
        self.works: list[Work] = []  # All that was ever put.
        self.groups: list[int] = []  # How many outputs each job took.

    def put(self, work: Work) -> None:
        """Queue one thing to do."""
        self._queue.append(work)
        self.works.append(work)

    def take(self) -> Job[tuple[Completion, ...]] | None:
        """All of the queue as one job."""
        if not self._queue:
            return None
        group, self._queue = self._queue, []
        self.groups.append(len(group))
        return self._job(group)

    def _job(self, group: list[Work]) -> Job[tuple[Completion, ...]]:
        yield Flush("log")
        return tuple(self._complete(output) for output in group)


class FakeDisk:
    """Every step succeeds when the gate is open, or fails for good."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()  # Set while a step waits at the gate.
        self.failure: Exception | None = None
        self.steps: list[Step] = []

    def fail(self, text: str = "fsync: EIO") -> None:
        """Let every later step fail."""
        self.failure = StorageError(text)

    def do(self, step: Step) -> object:
        """Carry out nothing."""
        self.waiting.set()
        self.gate.wait()
        self.waiting.clear()
        self.steps.append(step)
        if self.failure is not None:
            raise self.failure
        return None


def make_transport(
    core: FakeCore,
    inbox: Inbox,
    *,
    peers: dict[int, str] | None = None,
    dial: Dial = dial_tcp,
    machine: FakeMachine | None = None,
) -> Transport:
    """The transport of replica 0."""
    reception = Reception(
        report=core.report,
        durable_view=lambda: 0,
        machine=machine or FakeMachine(),
        limits=Limits(),
        addresses={0: "a:1", 1: "b:1"},
        counters=dict,
    )
    peers = {1: "b:1", 2: "c:1"} if peers is None else peers
    return Transport(cluster=CLUSTER, replica=0, peers=peers, inbox=inbox, reception=reception, dial=dial)


async def receive_messages(stream: trio.abc.ReceiveStream, count: int) -> list[Message]:
    """Read `count` messages; fewer when the stream ends before."""
    incoming = Incoming(stream)
    messages: list[Message] = []
    while len(messages) < count:
        decoded = await incoming.receive()
        if not decoded:
            break
        messages += [message for _envelope, message in decoded]
    return messages
