"""The client on Trio: one task owns the protocol machine, callers wait for their outcome.

`async with connect([...]) as client` gives a `Client` that any number of tasks may use at once. All
decisions are those of `core.cluster_client`; here are only streams, time and waiting. Inputs that are
ready are taken in one step, and what a step sends to one replica leaves in one write.

Submissions of many tasks become one step by waiting for the owner's next turn. Two things need no
such turn, each of which would cost a task switch on the way of an order: what was read from a
connection is a batch already, and a lone caller, who had the last answer to himself, has nobody to wait for.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias, cast

import attrs
import trio

from trio_pb.codec.wire import encode_client
from trio_pb.core.client_ports import (
    Cancel,
    ClientInput,
    ClientOptions,
    ClientOutput,
    Completed,
    Connect,
    Connected,
    Disconnect,
    Disconnected,
    Failure,
    OutcomeKind,
    Received,
    Submit,
    SubmitRead,
    Success,
    Transmit,
)
from trio_pb.core.cluster_client import ClusterClient
from trio_pb.core.messages import Greeted, ReadMode, Reject, Reply, StatusReport
from trio_pb.driver.addresses import parse_address
from trio_pb.driver.clock import Alarm
from trio_pb.driver.incoming import Incoming
from trio_pb.driver.outgoing import Outgoing
from trio_pb.driver.tcp import dial_tcp
from trio_pb.errors import (
    ConfigError,
    DeadlineError,
    LocalProtocolError,
    NotAppliedError,
    NotSentError,
    RemoteProtocolError,
    SessionLostError,
    SnapshotGoneError,
    TrioPbError,
    UnknownOutcomeError,
)

__all__ = ["Answer", "Client", "OpenStream", "Receipt", "connect", "open_client"]

TIMEOUT_SECONDS = 10.0
TIMEOUT_SECONDS_MAX = 1e9
IN_FLIGHT_MAX = 4096
OUTGOING_BYTES_MAX = 64 << 20
COMMAND_CODE_MIN = 2
CODE_MAX = 65535
CLOCK_SLACK_MS = 0.001  # So that a wake-up at a deadline finds it passed, whatever floats do.

OpenStream: TypeAlias = Callable[[str], Awaitable[trio.abc.Stream]]  # Given "host:port"; raises OSError.


@attrs.frozen
class Receipt:
    """A command was ordered, is durable on a quorum, and was executed exactly once."""

    op: int  # Its position in the one order of all commands.
    view: int
    timestamp: int  # Nanoseconds since 1970, as the primary proposed it.
    replayed: bool  # A repetition of ours found it executed.
    result: bytes
    replica: int  # Who answered,
    connection: int  # over which of its connections.


@attrs.frozen
class Answer:
    """What a query found in the state after `op`."""

    op: int
    view: int
    result: bytes
    cursor: bytes  # For the next page; empty when there is none.
    replica: int
    connection: int


@attrs.define(eq=False)
class _Connection:
    """One connection, from the order to open it until it is closed."""

    address: str
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    outgoing: Outgoing | None = None


@asynccontextmanager
async def connect(
    addresses: Sequence[str] | str,
    *,
    timeout_s: float = TIMEOUT_SECONDS,
    in_flight_max: int = IN_FLIGHT_MAX,
    options: ClientOptions | None = None,
    open_stream: OpenStream | None = None,
) -> AsyncGenerator[Client, None]:
    """Open a client of the cluster that has replicas at `addresses` ("host:port"; one, or several).

    It is ready when a first replica has answered. `timeout_s` bounds that wait, and each request that
    does not say otherwise. When the block ends, requests of tasks elsewhere end with what is certain
    of them then. Errors raised in the block come out as they are, in no exception group.

    Raises:
        ConfigError: an address is malformed, or there is none.
        NotSentError: nobody answered in time; the text says what happened at each address.
    """
    if isinstance(addresses, str):
        addresses = [address for part in addresses.split(",") if (address := part.strip())]
    if open_stream is None:
        open_stream = dial_tcp
        for address in addresses:
            parse_address(address)
    machine = ClusterClient(addresses, secrets.token_bytes(16), options)
    async with open_client(machine, open_stream, timeout_s=timeout_s, in_flight_max=in_flight_max) as client:
        yield client


@asynccontextmanager
async def open_client(
    machine: ClusterClient, open_stream: OpenStream, *, timeout_s: float, in_flight_max: int = IN_FLIGHT_MAX
) -> AsyncGenerator[Client, None]:
    """Open a client around a new `machine`; what `connect` does once it knows the addresses."""
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            client = Client(machine, nursery, open_stream, timeout_s=timeout_s, in_flight_max=in_flight_max)
            nursery.start_soon(client.run)
            try:
                await client.wait_greeted(timeout_s)
                yield client
            except BaseException as error:  # Raised again below, outside of the nursery's group.
                failure = error
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if failure is None or isinstance(failure, trio.Cancelled):
            # A fault of our own task, which ended the block by cancelling it: that fault is the news.
            failure = _first_leaf(group)
    if failure is not None:
        raise failure


class Client:
    """Requests of any number of tasks, over one session pool. Made by `connect`."""

    def __init__(
        self,
        machine: ClusterClient,
        nursery: trio.Nursery,
        open_stream: OpenStream,
        *,
        timeout_s: float,
        in_flight_max: int,
    ) -> None:
        self._machine = machine
        self._nursery = nursery
        self._open_stream = open_stream
        self._timeout_s = timeout_s
        self._room = trio.Semaphore(in_flight_max)
        self._start = trio.current_time()
        self._inputs: list[ClientInput] = []
        self._owner = trio.lowlevel.ParkingLot()  # Where the task of `run` waits.
        self._alarm = Alarm()
        self._last_completed = 0  # Outcomes of the last step that had any.
        self._greeted = trio.Event()
        self._is_closed = False
        self._next_token = 1
        self._waiting: dict[int, trio.lowlevel.Task | None] = {}  # By token; None: it is running, and waits next.
        self._outcomes: dict[int, Success | Failure] = {}  # Of tasks that are about to run.
        self._connections: dict[str, _Connection] = {}  # By address.
        self._touched: dict[str, Outgoing] = {}  # With frames of this step.

    # --- For callers ----------------------------------------------------------------------------

    @property
    def cluster(self) -> bytes | None:
        """The id of the cluster, 16 bytes."""
        return self._machine.cluster

    @property
    def primary(self) -> int | None:
        """The replica that requests go to now."""
        return self._machine.primary

    async def command(
        self, code: int, body: bytes, *, timeout_s: float | None = None, lane: int | None = None
    ) -> Receipt:
        """Have a command ordered and executed exactly once; return its receipt.

        Waits for room first while too many requests are in flight. Commands with the same `lane` are
        executed in the order of their calls. A cancelled call may or may not take effect.

        Raises:
            NotSentError: certainly no effect; nothing left this process.
            NotAppliedError: certainly no effect; `reason` names the refusal.
            DeadlineError: no answer in time; it may or may not have been executed.
            SessionLostError: the cluster cannot tell any more whether it was executed.
            UnknownOutcomeError: as DeadlineError, for other reasons, such as the client's end.
        """
        if not COMMAND_CODE_MIN <= code <= CODE_MAX:
            raise LocalProtocolError(f"command code {code}: must be {COMMAND_CODE_MIN} to {CODE_MAX}")
        if lane is not None and lane < 0:
            raise LocalProtocolError(f"lane {lane}: must not be negative")
        success = await self._call(timeout_s, lambda token, ms: Submit(token, code, body, ms, lane))
        reply = success.reply
        return Receipt(
            reply.op, reply.view, reply.timestamp, reply.replayed, reply.result, success.replica, success.connection
        )

    async def query(
        self,
        code: int,
        body: bytes,
        *,
        min_op: int = 0,
        mode: ReadMode = ReadMode.LINEARIZABLE,
        cursor: bytes = b"",
        timeout_s: float | None = None,
    ) -> Answer:
        """Have a query answered from a state at or after `min_op`; a cursor continues an earlier answer.

        Raises:
            NotSentError: no replica could be asked in time.
            NotAppliedError: refused, or no answer in time (reason "deadline"); reads have no effect.
            SnapshotGoneError: the replica that gave the cursor has dropped its snapshot; start again.
        """
        if not 0 <= code <= CODE_MAX:
            raise LocalProtocolError(f"query code {code}: must be 0 to {CODE_MAX}")
        success = await self._call(timeout_s, lambda token, ms: SubmitRead(token, code, body, ms, mode, min_op, cursor))
        reply = success.reply
        return Answer(reply.op, reply.view, reply.result, reply.cursor, success.replica, success.connection)

    async def wait_greeted(self, timeout_s: float) -> None:
        """Return when a first replica has answered.

        Raises:
            NotSentError: none did within `timeout_s`.
        """
        with trio.move_on_after(timeout_s):
            await self._greeted.wait()
        if not self._greeted.is_set():
            raise NotSentError(f"no replica to talk to within {timeout_s:g} s: {self._machine.explain()}")

    async def _call(self, timeout_s: float | None, make: Callable[[int, int], Submit | SubmitRead]) -> Success:
        seconds = min(self._timeout_s if timeout_s is None else timeout_s, TIMEOUT_SECONDS_MAX)
        deadline = trio.current_time() + seconds
        try:
            self._room.acquire_nowait()
        except trio.WouldBlock:
            with trio.move_on_at(deadline) as scope:
                await self._room.acquire()
            if scope.cancelled_caught:
                raise NotSentError("too many requests are in flight, until the deadline") from None
        try:
            if self._is_closed:
                raise NotSentError("the client is closed")
            token = self._next_token
            self._next_token += 1
            submission = make(token, round((deadline - self._start) * 1000))
            if not self._waiting and self._last_completed == 1:  # A lone caller.
                self._waiting[token] = None
                self._inputs.append(submission)
                self._step()
            else:
                self._put(submission)
            result = await self._wait(token)
        finally:
            self._room.release()
        if type(result) is Failure:
            raise _error_of(result)
        assert type(result) is Success
        return result

    async def _wait(self, token: int) -> Success | Failure:
        """Wait for the outcome of `token`; a cancelled wait tells the machine."""
        if token in self._outcomes:  # Refused in the step that we took ourselves.
            result = self._outcomes.pop(token)
            await trio.lowlevel.checkpoint()
            return result

        def abort(_: object) -> trio.lowlevel.Abort:
            del self._waiting[token]
            self._put(Cancel(token))
            return trio.lowlevel.Abort.SUCCEEDED

        # Bare task and reschedule: an Event for each request would cost as much as its way through the core.
        self._waiting[token] = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)
        return self._outcomes.pop(token)

    # --- The task that owns the machine ---------------------------------------------------------

    async def run(self) -> None:
        """Step the machine whenever there is something to take, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._alarm.run, self._wake)
                while True:
                    self._step()
                    await self._owner.park()
        finally:
            self._close()

    def _step(self) -> None:
        """Give the machine all that is ready; between two checkpoints, in whatever task."""
        if self._is_closed:
            return
        inputs, self._inputs = self._inputs, []
        self._carry_out(self._machine.step(self._now_ms(), inputs))
        if self._machine.cluster is not None:
            self._greeted.set()
        deadline_ms = self._machine.next_deadline_ms
        self._alarm.set(math.inf if deadline_ms is None else self._start + deadline_ms / 1000)

    def _put(self, item: ClientInput) -> None:
        if not self._inputs:  # Else the owner was woken already: what is in there without that is stepped at once.
            self._wake()
        self._inputs.append(item)

    def _wake(self) -> None:
        self._owner.unpark_all()

    def _now_ms(self) -> int:
        return int((trio.current_time() - self._start) * 1000 + CLOCK_SLACK_MS)

    def _carry_out(self, outputs: Iterable[ClientOutput]) -> None:
        completed = 0
        for output in outputs:
            if type(output) is Transmit:
                self._transmit(output)
            elif type(output) is Completed:
                self._complete(output)
                completed += 1
            elif type(output) is Connect:
                connection = self._connections[output.address] = _Connection(output.address)
                self._nursery.start_soon(self._serve, connection)
            elif type(output) is Disconnect:
                self._touched.pop(output.address, None)
                self._connections.pop(output.address).scope.cancel()
        for outgoing in self._touched.values():
            outgoing.flush()
        self._touched.clear()
        if completed:
            self._last_completed = completed

    def _transmit(self, output: Transmit) -> None:
        outgoing = self._connections[output.address].outgoing
        assert outgoing is not None, f"transmit to {output.address} before it was connected"
        # Over the bound the frame is lost, as on a bad network: the machine sends it again.
        outgoing.put(encode_client(self._machine.cluster, output.message))
        self._touched[output.address] = outgoing

    def _complete(self, output: Completed) -> None:
        if output.token not in self._waiting:
            return  # Its call was cancelled.
        task = self._waiting.pop(output.token)
        self._outcomes[output.token] = output.outcome
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _close(self) -> None:
        """End what tasks outside of the block still wait for, with what is certain of it."""
        self._is_closed = True
        cancels = [Cancel(token) for token in self._waiting]
        for output in self._machine.step(self._now_ms(), [*self._inputs, *cancels]):
            if type(output) is Completed:
                self._complete(output)

    # --- Connections ----------------------------------------------------------------------------

    async def _serve(self, connection: _Connection) -> None:
        """Open one connection and read from it until it ends."""
        reason = ""
        with connection.scope:
            try:
                stream = await self._open_stream(connection.address)
            except (OSError, trio.BrokenResourceError, ConfigError) as error:
                reason = str(error)
            else:
                reason = await self._use(connection, stream)
        if self._connections.get(connection.address) is connection:
            del self._connections[connection.address]
            self._put(Disconnected(connection.address, reason))

    async def _use(self, connection: _Connection, stream: trio.abc.Stream) -> str:
        """Read and write until the connection ends; return why it did."""
        reason = ""
        try:
            if self._connections.get(connection.address) is not connection:
                return reason  # Given up in the moment in which it was made; there may be another by now.
            connection.outgoing = Outgoing(stream, OUTGOING_BYTES_MAX)
            self._put(Connected(connection.address))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, connection, connection.outgoing)
                reason = await self._read(connection, Incoming(stream))
                nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(stream)
        return reason

    async def _write(self, connection: _Connection, outgoing: Outgoing) -> None:
        try:
            await outgoing.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            connection.scope.cancel()

    async def _read(self, connection: _Connection, incoming: Incoming) -> str:
        try:
            while messages := await incoming.receive():
                if self._connections.get(connection.address) is not connection:
                    break
                received: list[ClientInput] = []
                for envelope, message in messages:
                    if not isinstance(message, Greeted | Reply | Reject | StatusReport):
                        return f"a replica sent us a {type(message).__name__}"
                    received.append(Received(connection.address, envelope, message))
                self._inputs += received
                self._step()
        except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError) as error:
            return str(error) or "connection broken"
        return "connection closed by the replica"


def _error_of(failure: Failure) -> TrioPbError:
    """The one exception that says what `failure` says."""
    text = f"{failure.reason}: {failure.text}"
    if failure.reason == "snapshot_gone":
        return SnapshotGoneError(failure.text)
    if failure.kind is OutcomeKind.NOT_SENT:
        return NotSentError(text)
    if failure.kind is OutcomeKind.NOT_APPLIED:
        return NotAppliedError(failure.reason, text)
    if failure.reason == "session_lost":
        return SessionLostError(failure.text)
    if failure.reason == "deadline":
        return DeadlineError(failure.text)
    return UnknownOutcomeError(text)


def _first_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in `group` that is no mere cancellation, if there is one."""
    leaves: list[BaseException] = []
    todo: list[BaseException] = [group]
    while todo:
        error = todo.pop(0)
        if isinstance(error, BaseExceptionGroup):
            todo.extend(cast("BaseExceptionGroup[BaseException]", error).exceptions)
        else:
            leaves.append(error)
    return next((leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled)), leaves[0])
