"""A naive cluster in memory that keeps the rules of PROTOCOL 5.4, and a world around one client.

One list of executed bodies stands for the replicated state. Each replica is an inbox and an outbox per
connection; tests decide what arrives when, who leads, and what the leader has admitted but not ordered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

from trio_pb import canonical
from trio_pb.core.client_ports import (
    ClientInput,
    ClientOptions,
    Completed,
    Connect,
    Connected,
    Disconnect,
    Disconnected,
    Failure,
    Received,
    Submit,
    SubmitRead,
    Success,
    Transmit,
)
from trio_pb.core.cluster_client import ClusterClient
from trio_pb.core.messages import (
    CODE_EMPTY,
    CODE_REGISTER,
    ClientMessage,
    Envelope,
    Greet,
    Greeted,
    Member,
    Read,
    ReadMode,
    Reject,
    RejectCode,
    Reply,
    Request,
    ServerMessage,
)

CLUSTER = b"C" * 16
OTHER_CLUSTER = b"D" * 16
WINDOW = 8
ADDRESSES = ("r0", "r1", "r2")


@attrs.define
class FakeSession:
    """A row of the session table."""

    session: int
    last: int = 0
    replies: dict[int, tuple[int, bytes]] = attrs.Factory(dict[int, tuple[int, bytes]])  # Number -> (op, result).


@attrs.define
class FakeReplica:
    """One replica as a client sees it."""

    address: str
    number: int
    cluster: bytes = CLUSTER
    is_alive: bool = True
    is_silent: bool = False  # Paused: connections stay, nothing is read or answered.
    is_half_open: bool = False  # Its end of the connection is gone, and no packet told the client.
    points_at: int | None = None  # Whom its greetings and refusals name.
    refuse_with: RejectCode | None = None  # Refuse every request and read so.
    retry_ms: int = 0
    connection: int = 0
    is_up: bool = False
    inbox: deque[ClientMessage] = attrs.Factory(deque[ClientMessage])
    outbox: deque[ServerMessage] = attrs.Factory(deque[ServerMessage])
    received: list[ClientMessage] = attrs.Factory(list[ClientMessage])


class FakeCluster:
    """Replicas over one log."""

    def __init__(self) -> None:
        self.replicas = [FakeReplica(address, number) for number, address in enumerate(ADDRESSES)]
        self.primary: int | None = 0
        self.view = 1024
        self.op = 0
        self.executed: list[bytes] = []
        self.sessions: dict[bytes, FakeSession] = {}
        self.admitted: list[tuple[int, Request]] = []  # At the primary, not ordered: (connection's replica, request).
        self.held: dict[bytes, dict[int, tuple[int, Request]]] = {}
        self.is_ordering = True  # Order what is admitted at once.
        self.window = WINDOW
        self.request_size_max = 1000
        self.execute: Callable[[int, Request], bytes] = lambda op, request: b"did " + request.body
        self.answer: Callable[[int, Read], tuple[bytes, bytes]] | None = None  # Result and cursor of a read.
        self.lead(0)

    def replica(self, address: str) -> FakeReplica:
        """The replica at `address`."""
        return next(replica for replica in self.replicas if replica.address == address)

    def lead(self, primary: int | None, *, keep_admitted: bool = False, told: bool = True) -> None:
        """Move the primary; what was admitted and not ordered survives in the log or is forgotten."""
        self.primary = primary
        self.view += 1
        self.held.clear()
        if keep_admitted:
            self.order()
        self.admitted.clear()
        if told:
            for replica in self.replicas:
                replica.points_at = primary

    def order(self) -> None:
        """Order and apply what is admitted; answer over connections that are still up."""
        admitted, self.admitted = self.admitted, []
        for number, request in admitted:
            replica = self.replicas[number]
            answer = self.apply(request)
            if replica.is_up and self.primary == number:
                replica.outbox.append(answer)

    def apply(self, request: Request) -> ServerMessage:
        """The apply-time check and execution."""
        self.op += 1
        row = self.sessions.get(request.client)
        if request.code == CODE_REGISTER:
            if row is None:
                row = self.sessions[request.client] = FakeSession(self.op << 16)
            return self.reply(request, row.session, canonical.encode(row.session), self.op)
        if row is None or row.session != request.session:
            return self.reject(request, RejectCode.NO_SESSION)
        if request.number > row.last + 1:
            return self.reject(request, RejectCode.WINDOW)
        replayed = request.number <= row.last
        if not replayed:
            row.last = request.number
            result = b""
            if request.code != CODE_EMPTY:
                self.executed.append(request.body)
                result = self.execute(self.op, request)
            row.replies[request.number] = (self.op, result)
            row.replies.pop(request.number - self.window, None)
        kept = row.replies.get(request.number)
        if kept is None:
            return self.reject(request, RejectCode.STALE)
        return self.reply(request, row.session, kept[1], kept[0], replayed=replayed)

    def receive(self, replica: FakeReplica, message: ClientMessage) -> None:
        """Handle one message that arrived."""
        replica.received.append(message)
        if type(message) is Greet:
            if message.cluster not in (None, replica.cluster):
                replica.outbox.append(Reject(bytes(16), 0, 0, RejectCode.WRONG_CLUSTER, None, "", 0))
            else:
                replica.outbox.append(self.greeted(replica))
        elif type(message) is Request:
            self.receive_request(replica, message)
        elif type(message) is Read:
            self.receive_read(replica, message)

    def receive_request(self, replica: FakeReplica, request: Request) -> None:
        """Admission at a replica."""
        if replica.refuse_with is not None:
            replica.outbox.append(self.reject(request, replica.refuse_with, retry_ms=replica.retry_ms))
            return
        if replica.number != self.primary:
            replica.outbox.append(self.reject(request, RejectCode.NOT_PRIMARY, replica.points_at))
            return
        if request.code == CODE_REGISTER:
            self.admitted.append((replica.number, request))
        else:
            row = self.sessions.get(request.client)
            if row is None or row.session != request.session:
                replica.outbox.append(self.reject(request, RejectCode.NO_SESSION))
                return
            queued = [r.number for _, r in self.admitted if r.client == request.client and r.code != CODE_REGISTER]
            last = max([row.last, *queued])
            if request.number > last + self.window:
                replica.outbox.append(self.reject(request, RejectCode.WINDOW))
            elif request.number > last + 1:
                self.held.setdefault(request.client, {})[request.number] = (replica.number, request)
            elif request.number <= row.last:
                replica.outbox.append(self.apply(request))
            elif request.number == last + 1:
                self.admitted.append((replica.number, request))
                held = self.held.get(request.client, {})
                while (ahead := held.pop(last + 2, None)) is not None:
                    self.admitted.append(ahead)
                    last += 1
        if self.is_ordering:
            self.order()

    def receive_read(self, replica: FakeReplica, read: Read) -> None:
        """Answer a read with who answered."""
        if replica.refuse_with is not None:
            code = replica.refuse_with
        elif read.mode is ReadMode.LINEARIZABLE and replica.number != self.primary:
            code = RejectCode.NOT_PRIMARY
        else:
            result, cursor = b"read " + read.body, b"more@" + replica.address.encode() if read.code == 3 else b""
            if self.answer is not None:
                result, cursor = self.answer(self.op, read)
            replica.outbox.append(Reply(read.client, 0, read.number, self.op, self.view, 0, False, result, cursor))
            return
        hint = replica.points_at
        address = "" if hint is None else ADDRESSES[hint]
        replica.outbox.append(Reject(read.client, 0, read.number, code, hint, address, replica.retry_ms))

    def greeted(self, replica: FakeReplica) -> Greeted:
        """What a greeting says."""
        return Greeted(
            wire_version=1,
            cluster=replica.cluster,
            replica=replica.number,
            members=tuple(Member(other.number, other.address) for other in self.replicas),
            view=self.envelope(replica).view,
            primary=replica.points_at,
            connection=replica.connection,
            request_size_max=self.request_size_max,
            window=self.window,
            release=1,
        )

    def reply(self, request: Request, session: int, result: bytes, op: int, *, replayed: bool = False) -> Reply:
        """The receipt of a request."""
        return Reply(request.client, session, request.number, op, self.view, 1, replayed, result)

    def reject(self, request: Request, code: RejectCode, hint: int | None = None, retry_ms: int = 0) -> Reject:
        """A refusal."""
        address = "" if hint is None else ADDRESSES[hint]
        return Reject(request.client, request.session, request.number, code, hint, address, retry_ms)

    def envelope(self, replica: FakeReplica) -> Envelope:
        """What frames of `replica` say of it."""
        view = self.view if replica.number == self.primary or self.primary is None else self.view - 1
        return Envelope(
            cluster=replica.cluster,
            replica=replica.number,
            incarnation=bytes(8),
            boot=1,
            epoch=0,
            view=view,
            op=self.op,
            commit=self.op,
            release=1,
        )


class World:
    """One client, a fake cluster and the connections between them."""

    def __init__(self, options: ClientOptions | None = None, addresses: tuple[str, ...] = ADDRESSES) -> None:
        self.cluster = FakeCluster()
        self.client = ClusterClient(addresses, b"I" * 16, options)
        self.now_ms = 0
        self.connecting: list[str] = []
        self.outcomes: dict[int, Success | Failure] = {}
        self.completed_ms: dict[int, int] = {}
        self.connects: list[tuple[int, str]] = []
        self.tags = 0
        self.tokens = 0
        self.step()

    def step(self, *inputs: ClientInput) -> None:
        """One step of the client; its outputs take effect."""
        for output in self.client.step(self.now_ms, inputs):
            if type(output) is Completed:
                assert output.token not in self.outcomes, f"token {output.token} completed twice"
                self.outcomes[output.token] = output.outcome
                self.completed_ms[output.token] = self.now_ms
            elif type(output) is Connect:
                assert output.address not in self.connecting
                assert not self.cluster.replica(output.address).is_up
                self.connecting.append(output.address)
                self.connects.append((self.now_ms, output.address))
            elif type(output) is Disconnect:
                if output.address in self.connecting:
                    self.connecting.remove(output.address)
                self.close(output.address)
            elif type(output) is Transmit:
                replica = self.cluster.replica(output.address)
                assert replica.is_up, f"sent over no connection: {output}"
                if not replica.is_half_open:
                    replica.inbox.append(output.message)
        deadline = self.client.next_deadline_ms
        assert deadline is None or deadline > self.now_ms, f"a timer at {deadline} did not fire at {self.now_ms}"

    def close(self, address: str) -> None:
        """Forget a connection with all that is under way on it."""
        replica = self.cluster.replica(address)
        replica.is_up = replica.is_half_open = False
        replica.inbox.clear()
        replica.outbox.clear()

    def cut(self, address: str) -> None:
        """The connection to `address` breaks."""
        if self.cluster.replica(address).is_up:
            self.close(address)
            self.step(Disconnected(address))

    def kill(self, address: str) -> None:
        """The process at `address` dies."""
        self.cluster.replica(address).is_alive = False
        self.cut(address)

    def connect_one(self, address: str) -> None:
        """Let a connection attempt succeed or fail."""
        replica = self.cluster.replica(address)
        self.connecting.remove(address)
        if replica.is_alive:
            self.tags += 1
            replica.is_up, replica.connection = True, self.tags
            self.step(Connected(address))
        else:
            self.step(Disconnected(address, "refused"))

    def exchange(self) -> None:
        """Carry everything that is under way, until nothing is."""
        busy = True
        while busy:
            busy = False
            for address in list(self.connecting):
                if not self.cluster.replica(address).is_silent:
                    self.connect_one(address)
                    busy = True
            for replica in self.cluster.replicas:
                while replica.is_up and replica.inbox and not replica.is_silent:
                    self.cluster.receive(replica, replica.inbox.popleft())
                    busy = True
                busy = self.deliver(replica) or busy

    def deliver(self, replica: FakeReplica, count: int | None = None) -> bool:
        """Bring answers of `replica` to the client."""
        if not replica.is_up or not replica.outbox or replica.is_silent:
            return False
        count = len(replica.outbox) if count is None else count
        envelope = self.cluster.envelope(replica)
        self.step(*[Received(replica.address, envelope, replica.outbox.popleft()) for _ in range(count)])
        return True

    def run(self, for_ms: int, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, from timer to timer."""
        end_ms = self.now_ms + for_ms
        self.exchange()
        while not until():
            deadline = self.client.next_deadline_ms
            if deadline is None or deadline > end_ms:
                self.now_ms = end_ms
                self.step()
                self.exchange()
                return
            self.now_ms = deadline
            self.step()
            self.exchange()

    def submit(self, body: bytes = b"x", *, for_ms: int = 10_000, lane: int | None = None) -> int:
        """Submit a command; returns its token."""
        self.tokens += 1
        self.step(Submit(self.tokens, 2, body, self.now_ms + for_ms, lane))
        return self.tokens

    def read(
        self,
        body: bytes = b"k",
        *,
        code: int = 2,
        for_ms: int = 10_000,
        mode: ReadMode = ReadMode.LINEARIZABLE,
        cursor: bytes = b"",
    ) -> int:
        """Submit a read; returns its token."""
        self.tokens += 1
        self.step(SubmitRead(self.tokens, code, body, self.now_ms + for_ms, mode, 0, cursor))
        return self.tokens

    def success(self, token: int) -> Success:
        """The success of `token`."""
        outcome = self.outcomes.get(token)
        assert type(outcome) is Success, f"token {token}: {outcome}"
        return outcome

    def failure(self, token: int) -> Failure:
        """The failure of `token`."""
        outcome = self.outcomes.get(token)
        assert type(outcome) is Failure, f"token {token}: {outcome}"
        return outcome
