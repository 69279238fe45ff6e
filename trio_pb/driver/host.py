"""One task owns one replica: it takes what is ready, steps, and carries out what comes of it.

A turn is synchronous, so it is atomic: nothing in it waits for sockets or other tasks, nor for a slow
disk. Hence it may as well be taken in the task of a reader that asked for it `now` (`driver.inbox`).
Within a turn: frames to peers leave first, then storage work goes to its runner, then the state
machine executes; its results are fed to another step of the same turn; replies leave last. On a fast
disk, storage work is done after all that, in the same turn, and so are the steps that it completes.

Checkpoints are encoded and decoded in slices between turns: everybody who is ready comes to his turn
after each slice, so nobody waits for a whole checkpoint (PROTOCOL 9).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import trio

from trio_pb.codec.wire import encode_peer, encode_server
from trio_pb.core.messages import Envelope
from trio_pb.core.ports import (
    Adopt,
    Answer,
    Applied,
    Apply,
    CheckpointBegin,
    CheckpointRetry,
    ChunkPut,
    ChunkRead,
    Collect,
    Fatal,
    Input,
    Install,
    Output,
    Queried,
    Query,
    Report,
    Scrub,
    Send,
    SpaceCheck,
    Start,
    SuperblockWrite,
    SyncBegin,
    Tick,
    ToClient,
    Trace,
    TransferDone,
    WalAppend,
    WalRead,
)
from trio_pb.driver.clock import Alarm, Clock
from trio_pb.driver.disk_work import DiskWork
from trio_pb.driver.durability import Durability
from trio_pb.driver.events import EventLog
from trio_pb.driver.inbox import Inbox
from trio_pb.driver.reception import envelope_of
from trio_pb.driver.transport import Transport
from trio_pb.errors import ReplicaStoppedError, StorageError
from trio_pb.storage.checkpointer import Checkpointer
from trio_pb.storage.checkpointer import Machine as CheckpointMachine
from trio_pb.storage.work import Work

__all__ = ["SLICE_BYTES", "Core", "Machine", "ReplicaHost"]

logger = logging.getLogger(__name__)

SLICE_BYTES = 128 << 10  # Encoded between two turns: 2 us per KiB, hence far less than a millisecond.


MachineWork: TypeAlias = Apply | Query | CheckpointBegin | Adopt


class Core(Protocol):
    """The protocol core, `core.replica.Replica`: the seam of both worlds."""

    @property
    def next_deadline_tick(self) -> int:
        """The earliest tick at which a timer could fire."""
        ...

    def step(self, now_tick: int, inputs: Sequence[Input]) -> list[Output]:
        """Take what happened and return what to do."""
        ...

    def report(self) -> Report:
        """Where the replica stands."""
        ...


class Machine(CheckpointMachine, Protocol):
    """The application, `app.machine.StateMachine`: deterministic, synchronous."""

    def apply(self, op: int, timestamp: int, items: Sequence[tuple[int, bytes, int, bytes]]) -> tuple[bytes, ...]:
        """Execute (index, client, code, body) items in order; one result each."""
        ...

    def query(
        self, op: int, now_tick: int, items: Sequence[tuple[int, int, int, bytes, bytes]]
    ) -> tuple[tuple[int, bytes, bytes, str], ...]:
        """Evaluate (token, connection, code, body, cursor) items; (token, result, cursor, error) each."""
        ...

    def prepare_digest(self, pieces: int) -> bool:
        """Do so many pieces of the work that `digest` would do; return whether none is left."""
        ...

    def digest(self) -> bytes:
        """blake2b-256 of the whole state."""
        ...


class ReplicaHost:
    """Runs `core` in the real world. `start` comes from opening the storage (R-SCAN)."""

    def __init__(
        self,
        *,
        core: Core,
        start: Start,
        machine: Machine,
        clock: Clock,
        inbox: Inbox,
        disk: DiskWork,
        checkpointer: Checkpointer,
        events: EventLog,
        transport: Transport,
        durability: Durability,
    ) -> None:
        self._core = core
        self._start = start
        self._machine = machine
        self._clock = clock
        self._inbox = inbox
        self._disk = disk
        self._checkpointer = checkpointer
        self._transport = transport
        self._durability = durability
        self._alarm = Alarm()
        self._last_tick = 0  # Of the last Tick.
        self._storage_work: list[Work] = []  # Of the steps of this turn.
        self._machine_work: list[MachineWork] = []  # Of the step being carried out.
        self._client_envelope: Envelope | None = None  # Made once per step that answers clients.
        self._transfer_done = trio.Event()
        self._turned = trio.lowlevel.ParkingLot()
        self._slicer = trio.lowlevel.ParkingLot()  # Waits until there is a slice to do.
        # Every handler takes its own class of output: which one, the key says and a type cannot.
        self._carry_out: dict[type[Output], Callable[..., None]] = {
            Send: self._on_send,
            ToClient: self._on_to_client,
            WalAppend: self._on_write,
            SuperblockWrite: self._on_write,
            WalRead: self._storage_work.append,
            SyncBegin: self._storage_work.append,
            ChunkPut: self._storage_work.append,
            ChunkRead: self._storage_work.append,
            Collect: self._storage_work.append,
            Scrub: self._storage_work.append,
            SpaceCheck: self._storage_work.append,
            Apply: self._machine_work.append,
            Query: self._machine_work.append,
            CheckpointBegin: self._machine_work.append,
            Adopt: self._machine_work.append,
            CheckpointRetry: checkpointer.retry,
            Install: checkpointer.install,
            TransferDone: self._on_transfer_done,
            Fatal: self._on_fatal,
            Trace: events.on_trace,
        }
        self.turns = 0

    def take_first_turn(self) -> None:
        """Let the core begin from what the storage held.

        Raises:
            ReplicaStoppedError: it refused to.
        """
        self._turn([self._start])

    async def run(self) -> None:
        """Take turns until something ends the replica.

        Raises:
            ReplicaStoppedError: the core or the disk said that this replica must not go on.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._alarm.run, self._inbox.ring)
            nursery.start_soon(self._take_slices)
            self._inbox.offer_turns(self._turn_now)
            try:
                while True:
                    self._turn(await self._inbox.take_all())
            except ReplicaStoppedError as error:
                stopped = error
            finally:
                self._inbox.offer_turns(None)
            nursery.cancel_scope.cancel()
        raise stopped  # Out here, so that no exception group wraps it.

    async def wait_transfer_done(self) -> None:
        """Return when the core answered a Transfer."""
        await self._transfer_done.wait()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return after the first turn from now on that leaves `condition` true, or at once."""
        while not condition():
            await self._turned.park()

    # --- A turn -------------------------------------------------------------------------------

    def _turn_now(self, inputs: list[Input]) -> None:
        """Take a turn in the task of whoever put `inputs`; what it raises belongs to ours."""
        try:
            self._turn(inputs)
        except BaseException as error:
            self._inbox.fail(error)

    def _turn(self, inputs: list[Input]) -> None:
        """Feed `inputs`, and whatever executing the outputs gives, until nothing is left to do."""
        now_tick = self._clock.now_tick()
        if now_tick > self._last_tick:
            # Last in its step: a process that was paused first hears what waited (PROTOCOL 4.1).
            inputs.append(Tick(now_tick - self._last_tick, self._clock.wall_ns()))
            self._last_tick = now_tick
        self._durability.note_completions(inputs)
        while inputs:
            for output in self._core.step(now_tick, inputs):
                self._carry_out[type(output)](output)
            self._client_envelope = None
            self._transport.flush_peers()
            # After the sends: from here on a disk thread competes with us for the interpreter.
            if self._storage_work and not self._disk.may_work_here(self._storage_work):
                self._disk.put(self._storage_work)
                self._storage_work.clear()
            inputs = self._execute()
            if not inputs and self._storage_work:
                self._transport.flush_clients()  # Replies do not wait for what was ordered after them.
                inputs = self._work_here()
        self._transport.flush_clients()
        # A deadline in the past waits for the next tick: without one no timer can fire.
        self._alarm.set(self._clock.time_of(max(self._core.next_deadline_tick, now_tick + 1)))
        self.turns += 1
        if self._turned:
            self._turned.unpark_all()
        if self._slicer and self._checkpointer.is_due:
            self._slicer.unpark_all()

    def _work_here(self) -> list[Input]:
        """Have storage work done while we wait; its completions are the next step of this turn."""
        done = self._disk.work_here(self._storage_work)
        self._storage_work.clear()
        self._durability.note_completions(done)
        return done

    def _execute(self) -> list[Input]:
        """Have the state machine do what the step asked of it, in that order; return what came of it."""
        done: list[Input] = []
        machine = self._machine
        for work in self._machine_work:
            if type(work) is Apply:
                done.append(Applied(work.op, machine.apply(work.op, work.timestamp, work.items)))
            elif type(work) is Query:
                answers = machine.query(work.op, work.now_tick, work.items)
                done.append(Queried(tuple(Answer(*answer) for answer in answers)))
            elif type(work) is CheckpointBegin:
                self._checkpointer.begin(work)
            else:
                assert type(work) is Adopt
                self._checkpointer.adopt(work)
        self._machine_work.clear()
        return done

    # --- Checkpoints ---------------------------------------------------------------------------

    async def _take_slices(self) -> None:
        """Encode and decode checkpoints while there is something to do, a slice at a time."""
        while True:
            while not self._checkpointer.is_due:
                await self._slicer.park()
            # Whoever is ready by now, a reader or the taker of turns, goes first.
            await trio.lowlevel.checkpoint()
            self._take_slice()

    def _take_slice(self) -> None:
        if not self._checkpointer.is_due:
            return  # The turn in between gave it up.
        try:
            work, inputs = self._checkpointer.advance(SLICE_BYTES)
        except StorageError as error:
            self._inbox.fail(ReplicaStoppedError("storage", str(error)))
            return
        if work:
            self._disk.put(work)
        if inputs:
            self._inbox.put(inputs)

    # --- Outputs ------------------------------------------------------------------------------

    def _on_send(self, output: Send) -> None:
        self._durability.check(output.requires)
        message = output.message
        self._transport.put_peers(output.replicas, encode_peer(output.envelope, message), type(message))

    def _on_to_client(self, output: ToClient) -> None:
        envelope = self._client_envelope
        if envelope is None:
            envelope = envelope_of(self._core.report(), self._durability.superblock.view)
            self._client_envelope = envelope
        self._transport.put_client(output.connection, encode_server(envelope, output.message))

    def _on_write(self, output: WalAppend | SuperblockWrite) -> None:
        self._durability.note_write(output)
        self._storage_work.append(output)

    def _on_transfer_done(self, output: TransferDone) -> None:
        logger.info("leadership %s", "handed over" if output.handed_over else "not handed over")
        self._transfer_done.set()

    def _on_fatal(self, output: Fatal) -> None:
        raise ReplicaStoppedError(output.code, output.text)
