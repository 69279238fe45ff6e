"""The world around one core: it takes turns, carries out outputs in order, and dies when told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sim.disk import FakeDisk
from sim.network import Payload
from sim.oracles.content import demand_content
from sim.oracles.facts import violate
from sim.replica_disk import ReplicaDisk, World
from sim.scheduler import TICK_US
from sim.shape import address_of
from sim.wall_clock import WallClock
from trio_pb.codec.wire import WIRE_VERSION
from trio_pb.core import messages
from trio_pb.core.config import Options
from trio_pb.core.messages import (
    ClientMessage,
    Envelope,
    Greet,
    Greeted,
    Member,
    Request,
    ServerMessage,
    StatusGet,
    StatusReport,
)
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
    FromClient,
    FromPeer,
    Input,
    Install,
    Link,
    Output,
    Queried,
    Query,
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
from trio_pb.core.replica import Replica
from trio_pb.storage.checkpointer import Checkpointer
from trio_pb.storage.store import Store
from trio_pb.storage.work import Completion

__all__ = ["RecordedStep", "SimReplica"]

SLICE_DELAY_US = 50  # Between a turn and a slice of a checkpoint.
STEPS_PER_LOOK = 16  # Between two looks at all that a replica keeps (INV-30).
STOPS = ("unrecoverable", "divergence", "contradiction")  # Of a replica whose cluster suffered more than it can bear.


class RecordedStep(NamedTuple):
    """One call of the core, for replay."""

    now_tick: int
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]


class _CrashNowError(Exception):
    """A planned crash falls between two outputs of a turn."""


class _StopNowError(Exception):
    """A replica stopped by itself, and rightly."""


class SimReplica(ReplicaDisk):
    """One replica over all its boots. Its disk outlives its crashes; nothing else does."""

    def __init__(self, world: World, number: int, disk: FakeDisk, options: Options) -> None:
        super().__init__(world, number, disk)
        self.options = options
        self.is_up = False  # The process runs; storage may still be opening.
        self.is_held = False  # Nothing starts it, or lets it go on, for the time being.
        self.is_stopped = False  # It stopped for good, as it should: an operator must replace it.
        self.may_stop: set[str] = set()  # Codes of Fatal that are right for it in this run.
        self.is_wiped = False  # Its disk was lost, and formatted anew under the old id: it has no vote any more.
        self.turn_delay = world.shape.turn_delay  # Microseconds that it lets inputs gather.
        self.tick_us = TICK_US  # Microseconds that pass while it counts a tick: its clock may run slowly.
        self.core: Replica | None = None
        self.machine = world.shape.subject.new_machine()
        self.connections: dict[int, int] = {}  # Connection -> client node.
        self.crash_after_outputs: int | None = None  # A planned crash inside a turn.
        self.on_crash: Callable[[SimReplica, bool], None] = lambda _replica, _power: None
        self.recorded: list[tuple[Options, list[RecordedStep]]] = []  # By boot.
        self.steps = 0
        self.clock = WallClock()
        self._miscomputes = False
        self._boot_time = 0
        self._last_tick = 0
        self._wake_at: int | None = None
        self._inbox: list[Input] = []
        self._turn_due = False
        self._checkpointer = Checkpointer(self.machine)
        self._slice_due = False
        # Each handler takes one class of output, which the table's type cannot say.
        self._carry_out: dict[type[Output], Callable[[Any], None]] = {
            Send: self._on_send,
            ToClient: self._on_to_client,
            WalAppend: self._on_append,
            SuperblockWrite: self._on_superblock_write,
            WalRead: self._on_storage_work,
            ChunkPut: self._on_storage_work,
            ChunkRead: self._on_storage_work,
            SyncBegin: self._on_storage_work,
            Collect: self._on_collect,
            Scrub: self._on_storage_work,
            SpaceCheck: self._on_storage_work,
            CheckpointBegin: lambda output: self._checkpointer.begin(output),
            CheckpointRetry: lambda output: self._checkpointer.retry(output),
            Install: lambda output: self._checkpointer.install(output),
            Adopt: self._on_adopt,
            Apply: self._on_apply,
            Query: self._on_query,
            TransferDone: self._on_transfer_done,
            Fatal: self._on_fatal,
            Trace: self._on_trace,
        }
        self._fed: list[Input] = []  # For the next step of this turn.

    @property
    def is_primary(self) -> bool:
        """Whether it runs and believes to lead."""
        return self.core is not None and self.core.state.is_primary

    @property
    def view(self) -> int:
        """The view that it is in; 0 while it does not run."""
        return self.core.state.view if self.core is not None else 0

    @property
    def boots(self) -> int:
        """How often it was started."""
        return self._boots

    # --- Life and death -------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process: open storage, then take the first turn."""
        assert not self.is_up, f"{self.name} runs already"
        self.is_up = True
        self.is_stopped = False
        self._life += 1
        self._boots += 1
        if self.world.shape.mixed_releases:
            self._choose_release()
        self._store = Store(segment_size=self.world.shape.segment_size)
        if self._boots > 1:
            self.machine = self.world.shape.subject.new_machine()  # Nothing of the last boot's state is left in memory.
        self._checkpointer = Checkpointer(self.machine)
        self.world.trace("start", self.number)
        self._run_job(self._store.open(self.machine), self._on_opened)

    def _choose_release(self) -> None:
        """This boot may be of a later release than the last one, or of an earlier one: an upgrade, and its undoing."""
        world = self.world
        is_newer = world.choices.flag(("newer release", self.number, self._boots), 0.5)
        self.options = world.shape.options(world.seed, newer=is_newer)
        if is_newer:
            world.count("newer release")

    def crash(self, *, power: bool) -> None:
        """Die at once; with `power` the machine dies and unflushed writes are at stake."""
        if not self.is_up:
            return
        self.is_up = self.is_paused = self._turn_due = self._step_waits = self._slice_due = False
        self._life += 1
        self.core = None
        self._job = None
        self._inbox.clear()
        self._fed.clear()
        self._wake_at = self.crash_after_outputs = self.crash_after_steps = self.crash_at_flush = None
        self._lost_power = power
        if power:
            self.disk.cut_power()
        else:
            self.disk.crash_process()
        self.world.trace("crash", self.number, power)
        self.world.count("crashes")
        connections, self.connections = self.connections, {}
        if not power:  # The machine lives and resets them; a dead machine says nothing.
            for connection, client in connections.items():
                self.world.end_stream(self.number, client, connection)
        self.on_crash(self, power)
        self.struck_at = ""

    def plan_crash(
        self,
        *,
        power: bool,
        after_outputs: int | None = None,
        after_steps: int | None = None,
        at_flush: tuple[str, int] | None = None,
    ) -> None:
        """Die later: before the n-th output, in the n-th step of disk work or at the n-th flush of a file from now."""
        self._crash_power = power
        self.crash_after_outputs, self.crash_after_steps, self.crash_at_flush = after_outputs, after_steps, at_flush

    def wipe(self, disk: FakeDisk) -> None:
        """Have an empty disk from the next start on, and stop as soon as the others say that it is not ours."""
        assert not self.is_up, f"{self.name} runs on its disk"
        self.disk = disk
        self.is_wiped = True
        self.may_stop.add("identity_refused")

    def flip(self) -> None:
        """Let the state in memory go wrong, where no request and no read looks (PROTOCOL 9, mismatch)."""
        self._go_wrong()
        self.world.shape.subject.corrupt(self.machine)

    def miscompute(self) -> None:
        """Let the next answer come out wrong, though the state is right."""
        self._go_wrong()
        self._watch.facts.disks[self.number].has_miscomputed = True
        self._miscomputes = True

    def _go_wrong(self) -> None:
        disk = self._watch.facts.disks[self.number]
        disk.is_flipped, disk.flipped_op = True, self.machine.op

    def pause(self) -> None:
        """Stop executing; the world goes on, and what arrives waits."""
        self.is_paused = self.is_up

    def resume(self) -> None:
        """Go on: hear everything that waited in one step, the time that passed last."""
        if self.is_paused and not self.is_held:
            self.is_paused = False
            step_waits, self._step_waits = self._step_waits, False
            if self.core is not None:
                self._turn()
            if step_waits:
                self._scheduler.after(0, self._finish_step, self._life)

    # --- Inputs ---------------------------------------------------------------------------------

    def hear_peer(self, payload: Payload) -> None:
        """A frame of a peer arrived."""
        assert payload.envelope is not None
        # The network carries what peers sent: the type of its payload is wider.
        self._take(FromPeer(payload.envelope, payload.message))  # type: ignore[arg-type]

    def hear_client(self, connection: int, message: ClientMessage) -> None:
        """A frame of a client arrived on a live connection."""
        core = self.core
        if core is None:
            return
        if type(message) is Request or type(message) is messages.Read:
            self._watch.from_client(self.number, message)
            self._take(FromClient(connection, message))
        elif type(message) is Greet:
            self._answer(connection, self._greeted(core, connection))
        elif type(message) is StatusGet:
            self._answer(connection, self._status(core))

    def lose_connection(self, connection: int) -> None:
        """A client connection ended."""
        if self.connections.pop(connection, None) is not None:
            self._take(Link(None, connection, up=False))

    def take(self, item: Input) -> None:
        """Feed any other input, for example an operator's."""
        self._take(item)

    def _take(self, item: Input) -> None:
        if self.core is None:
            return  # Not listening yet, or dead.
        self._inbox.append(item)
        if self.is_paused or self._turn_due:
            return
        if self.turn_delay == 0:
            self._turn()
        else:
            self._turn_due = True
            self._scheduler.after(self.turn_delay, self._due_turn, self._life)

    def _due_turn(self, life: int) -> None:
        if life == self._life:
            self._turn_due = False
            if not self.is_paused:
                self._turn()

    def _wake(self, life: int, time: int) -> None:
        if life == self._life and self._wake_at == time:
            self._wake_at = None
            if self.is_paused:
                return
            core = self.core
            assert core is not None
            if self._inbox or core.next_deadline_tick <= (time - self._boot_time) // self.tick_us:
                self._turn()
            else:
                self._scheduler.idle += 1
                self._wake_later(core, self._last_tick)  # The timer that was due was started anew meanwhile.
        else:
            self._scheduler.idle += 1

    # --- Turns ----------------------------------------------------------------------------------

    def _turn(self) -> None:
        core = self.core
        assert core is not None
        now_tick = (self._scheduler.now - self._boot_time) // self.tick_us
        inputs, self._inbox = self._inbox, []
        if now_tick > self._last_tick:
            inputs.append(Tick(now_tick - self._last_tick, self.clock.read(self._scheduler.now)))
            self._last_tick = now_tick
        try:
            while inputs:
                inputs = self._step(core, now_tick, inputs)
        except _CrashNowError:
            self.crash(power=self._crash_power)
            return
        except _StopNowError:
            self._stop_for_good()
            return
        self._begin_disk_work()
        if self.core is not core:
            return  # A planned crash fell into the first step of the disk's work.
        if self._checkpointer.is_due and not self._slice_due:
            self._slice_due = True
            self._scheduler.after(SLICE_DELAY_US, self._take_slice, self._life)
        self._wake_later(core, now_tick)

    def _take_slice(self, life: int) -> None:
        """Encode or decode a slice of a checkpoint, between two turns."""
        if life != self._life or not self._slice_due:
            return
        if self.is_paused:
            self._scheduler.after(SLICE_DELAY_US, self._take_slice, life)
            return
        self._slice_due = False
        if self._checkpointer.is_due:
            advance = self._checkpointer.advance(self.world.shape.slice_bytes)
            for work in advance.work:
                self._put(work)
            self._inbox.extend(advance.inputs)
        self._turn()

    def _wake_later(self, core: Replica, now_tick: int) -> None:
        # No timer fires without a Tick: one that is due already waits for the next.
        soonest = self._boot_time + (now_tick + 1) * self.tick_us
        if self._wake_at is not None and self._wake_at <= soonest:
            return
        wake = max(self._boot_time + core.next_deadline_tick * self.tick_us, soonest)
        if self._wake_at is None or wake < self._wake_at:
            self._wake_at = wake
            self._scheduler.at(wake, self._wake, self._life, wake)

    def _step(self, core: Replica, now_tick: int, inputs: list[Input]) -> list[Input]:
        outputs = core.step(now_tick, inputs)
        self.steps += 1
        if self.recorded:
            self.recorded[-1][1].append(RecordedStep(now_tick, tuple(inputs), tuple(outputs)))
        self._watch.step(self.number, core.state)
        if self.steps % STEPS_PER_LOOK == 0:
            self._watch.core(self.number, core)
        carry_out = self._carry_out
        for output in outputs:
            if self.crash_after_outputs is not None:
                if self.crash_after_outputs == 0:
                    raise _CrashNowError
                self.crash_after_outputs -= 1
            carry_out[type(output)](output)
        fed = self._fed
        if fed:
            self._fed = []
        return fed

    # --- Outputs --------------------------------------------------------------------------------

    def _on_send(self, output: Send) -> None:
        self._watch.send(self.number, output)
        payload = Payload(output.message, output.envelope, 0)
        for destination in output.replicas:
            self.world.network.send(self.number, destination, payload)

    def _on_to_client(self, output: ToClient) -> None:
        self._watch.to_client(self.number, output)
        self._answer(output.connection, output.message)

    def _on_append(self, output: WalAppend) -> None:
        self._watch.append(self.number, output)
        self._put(output)

    def _on_superblock_write(self, output: SuperblockWrite) -> None:
        self._watch.image(self.number, output)
        self._put(output)

    def _on_storage_work(
        self, output: WalRead | ChunkPut | ChunkRead | SyncBegin | Collect | Scrub | SpaceCheck
    ) -> None:
        self._put(output)

    def _on_collect(self, output: Collect) -> None:
        self._watch.collect(self.number, output)
        self._put(output)

    def _on_adopt(self, output: Adopt) -> None:
        self._checkpointer.adopt(output)
        self._watch.adopt(self.number, output.target.op)
        self._watch.state(self.number, output.target.op, self.machine.digest())

    def _on_apply(self, output: Apply) -> None:
        self._watch.apply(self.number, output)
        results = self.machine.apply(output.op, output.timestamp, output.items)
        if self._miscomputes and results:
            self._miscomputes = False
            results = (bytes(255 - byte for byte in results[0]), *results[1:])
        self._fed.append(Applied(output.op, results))
        if output.op % 32 == 0:
            self._watch.state(self.number, output.op, self.machine.digest())

    def _on_query(self, output: Query) -> None:
        answers = self.machine.query(output.op, output.now_tick, output.items)
        self._fed.append(Queried(tuple(Answer(*answer) for answer in answers)))

    def _on_transfer_done(self, output: TransferDone) -> None:
        self.world.trace("transfer done", self.number, output.handed_over)

    def _on_fatal(self, output: Fatal) -> None:
        if output.code in self.may_stop or (self._watch.facts.is_beyond and output.code in STOPS):
            self.world.count(f"fatal {output.code}")
            self.world.trace("stopped by itself", self.number, output.code)
            raise _StopNowError
        violate("fatal", f"{self.name} stopped by itself: {output.code}: {output.text}")

    def _on_trace(self, output: Trace) -> None:
        self.world.trace(output.event, self.number, *output.fields)
        self.world.count(output.event)

    # --- Clients --------------------------------------------------------------------------------

    def _answer(self, connection: int, message: ServerMessage) -> None:
        client = self.connections.get(connection)
        if client is not None and self.core is not None:
            payload = Payload(message, self._envelope(self.core), connection)
            self.world.network.send_on_stream(self.number, client, payload)

    def _envelope(self, core: Replica) -> Envelope:
        # The view that clients hear of is a durable one, like every other (R-ENV).
        return core.state.envelope()

    def _greeted(self, core: Replica, connection: int) -> Greeted:
        report = core.report()
        limits = self.options.limits
        return Greeted(
            wire_version=WIRE_VERSION,
            cluster=report.cluster,
            replica=report.replica,
            members=tuple(Member(replica, address_of(replica)) for replica in report.configuration.voters),
            view=report.view,
            primary=report.primary,
            connection=connection,
            request_size_max=limits.request_size_max,
            window=limits.session_window,
            release=report.release,
        )

    def _status(self, core: Replica) -> StatusReport:
        report = core.report()
        return StatusReport(
            replica=report.replica,
            status=report.status,
            is_primary=report.is_primary,
            view=report.view,
            log_view=report.log_view,
            head=report.head,
            commit=report.commit,
            applied=report.applied,
            state_op=report.applied,
            state_digest=self.machine.digest(),
            peers=report.peers,
            counters=report.counters,
        )

    # --- Storage --------------------------------------------------------------------------------

    def _stop_for_good(self) -> None:
        self.is_stopped = True
        self.crash(power=False)

    def _on_opened(self, start: Start) -> None:
        world = self.world
        demand_content(self.disk, self._watch.facts.disks[self.number])
        self._is_disk_idle = False
        self.core = Replica(self.options)
        self._boot_time = self._scheduler.now
        self._last_tick = 0
        if world.shape.record:
            self.recorded.append((self.options, []))
        self._watch.start(self.number, start, self._durable_scan(start))
        self._inbox.append(start)
        self._turn()

    def _on_completions(self, completions: tuple[Completion, ...]) -> None:
        self._note_durable(completions)
        self._inbox.extend(self._checkpointer.sift(completions))
        if completions:
            self._turn()
        else:
            self._begin_disk_work()
