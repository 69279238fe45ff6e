"""One replica among the rules: a core, its disk, its state machine, and its own clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sim.exhaust.disk import Disk
from sim.oracles.facts import violate
from sim.oracles.watch import Watch
from sim.orders import ORDERS
from tests.rules.platter import Left, Platter
from trio_pb.app.machine import StateMachine
from trio_pb.core.config import Options
from trio_pb.core.messages import Reject, Reply
from trio_pb.core.ports import (
    Adopt,
    Answer,
    Applied,
    Apply,
    CheckpointBegin,
    CheckpointRetry,
    Collect,
    Fatal,
    Input,
    Install,
    Output,
    Queried,
    Query,
    Send,
    SuperblockDone,
    SuperblockWrite,
    Tick,
    ToClient,
    Trace,
    TransferDone,
    WalAppend,
    WalDone,
    WalRead,
)
from trio_pb.core.replica import Replica
from trio_pb.storage.checkpointer import Checkpointer

__all__ = ["Seat"]

WALL_NS = 1_700_000_000_000_000_000  # What the wall clocks show at tick 0.
TICK_NS = 10_000_000
SLICE_BYTES = 1 << 20  # Of a checkpoint, encoded at once: all of it.


class Seat:
    """A replica over all its boots."""

    def __init__(
        self,
        number: int,
        disk: Disk,
        options: Options,
        send: Callable[[int, Send], None],
        answer: Callable[[int, int, Reply | Reject], None],
    ) -> None:
        """`send(replica, send)` and `answer(replica, connection, message)` take what it says."""
        self.number = number
        self.platter = Platter(disk)
        self.core: Replica | None = None
        self.machine: StateMachine = ORDERS.new_machine()
        self.now_tick = 0
        self.watch: Watch | None = None
        self.events: list[tuple[str, object]] = []  # What it did, for the story: who, and the output.
        self._options = options
        self._send = send
        self._answer = answer
        self._checkpointer = Checkpointer(self.machine)

    @property
    def name(self) -> str:
        """R0, R1, ..."""
        return f"R{self.number}"

    def __repr__(self) -> str:
        return self.name

    @property
    def leads(self) -> bool:
        """Whether it is a primary that means to go on."""
        return self.core is not None and self.core.state.is_leading

    # --- Life and death ---------------------------------------------------------------------------

    def start(self) -> None:
        """Boot from the disk, up to where this boot's number is durable: before that nobody hears of it."""
        assert self.core is None, f"{self.name} runs"
        self.machine = ORDERS.new_machine()
        self._checkpointer = Checkpointer(self.machine)
        self.core = Replica(self._options)
        self.now_tick = 0
        start = self.platter.start(self.machine)
        self._oracles.start(self.number, start, start.scan)
        self.take(start)
        self.image_done()

    def crash(self, left: Left) -> None:
        """Lose the power."""
        self.core = None
        self.platter.crash(left)

    # --- What happens to it -----------------------------------------------------------------------

    def take(self, *inputs: Input) -> None:
        """Take inputs, and whatever follows from them without the disk.

        Raises:
            Violation: a promise is broken, or the replica stops.
        """
        assert self.core is not None, f"{self.name} is down"
        waiting: list[Input] = list(inputs)
        while waiting:
            outputs = self.core.step(self.now_tick, waiting)
            self._oracles.step(self.number, self.core.state)
            answers = [it for output in outputs for it in self._carry_out(output)]
            waiting = answers + self._slices()

    def tick(self, ticks: int) -> None:
        """So much time passes here, and nowhere else."""
        self.now_tick += ticks
        self.take(Tick(ticks, WALL_NS + self.now_tick * TICK_NS))

    def append_done(self) -> None:
        """The oldest append is durable."""
        sequence = self.platter.append_done()
        self._oracles.append_done(self.number, sequence)
        self.take(WalDone(sequence))

    def image_done(self) -> None:
        """The superblock image is durable."""
        sequence = self.platter.image_done()
        self._oracles.image_done(self.number, sequence)
        self.take(SuperblockDone(sequence))

    def read_done(self, wanted: WalRead) -> None:
        """A record was read."""
        self.take(self.platter.read(wanted))

    def store_done(self) -> None:
        """The oldest job about checkpoints and upkeep is done."""
        inputs = self._checkpointer.sift(self.platter.complete_store())
        self.take(*inputs, *self._slices())

    def _slices(self) -> list[Input]:
        inputs: list[Input] = []
        while self._checkpointer.is_due:
            advance = self._checkpointer.advance(SLICE_BYTES)
            self.platter.store.extend(advance.work)
            inputs += advance.inputs
        return inputs

    # --- What it does -----------------------------------------------------------------------------

    @property
    def _oracles(self) -> Watch:
        assert self.watch is not None
        return self.watch

    def _carry_out(self, output: Output) -> Sequence[Input]:
        """Return what comes of it at once."""
        self.events.append((self.name, output))
        watch, number = self._oracles, self.number
        match output:
            case Send():
                watch.send(number, output)
                self._send(number, output)
            case ToClient():
                watch.to_client(number, output)
                self._answer(number, output.connection, output.message)
            case WalAppend():
                watch.append(number, output)
                self.platter.append(output)
            case SuperblockWrite():
                watch.image(number, output)
                self.platter.write_image(output)
            case WalRead():
                self.platter.reads.append(output)
            case Apply():
                watch.apply(number, output)
                results = self.machine.apply(output.op, output.timestamp, output.items)
                watch.state(number, output.op, self.machine.digest())
                return [Applied(output.op, results)]
            case Query():
                answers = self.machine.query(output.op, output.now_tick, output.items)
                return [Queried(tuple(Answer(*answer) for answer in answers))]
            case CheckpointBegin():
                self._checkpointer.begin(output)
            case CheckpointRetry():
                self._checkpointer.retry(output)
            case Install():
                self._checkpointer.install(output)
            case Adopt():
                self._checkpointer.adopt(output)
                watch.adopt(number, output.target.op)
                watch.state(number, output.target.op, self.machine.digest())
            case Fatal():
                violate("fatal", f"{self.name} stops: {output.code}: {output.text}")
            case Trace() | TransferDone():
                pass
            case Collect():
                watch.collect(number, output)
                self.platter.store.append(output)
            case _:
                self.platter.store.append(output)
        return ()
