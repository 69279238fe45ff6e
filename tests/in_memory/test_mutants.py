"""The harness sees: drivers with one mistake each, and the judge that must find it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from typing import Any

import attrs
import pytest
import trio

from sim.choices import Choices
from sim.shape import DiskSpeed, Shape, WorkloadPlan
from trio_pb.codec.frames import Frame, FrameReader
from trio_pb.driver import disk_work, transport
from trio_pb.driver.client import Client
from trio_pb.driver.disk_work import DiskWork, StorageJob
from trio_pb.driver.flush_policy import FlushPolicy
from trio_pb.driver.outgoing import Outgoing
from trio_pb.driver.peer_link import PeerChannel
from trio_pb.storage.disk import Flush, Step
from trio_pb.storage.work import Completion, Work
from trio_pb.testbed.in_memory import streams
from trio_pb.testbed.in_memory.run import run_driver
from trio_pb.testbed.in_memory.shape import DriverShape, FaultCounts
from trio_pb.testbed.in_memory.streams import StreamFaults

WORKLOAD = WorkloadPlan(operations=20, in_flight=3, think_mean=1000)
SIZES = Shape(replicas=3, clients=2, workload=WORKLOAD, segment_size=64 * 1024)
SEEDS = (8, 9, 10)
PATIENCE = 700_000  # Microseconds: a mutant need not be waited for as long.
CALM = DriverShape(sizes=SIZES, patience=PATIENCE)
PIECES = DriverShape(sizes=SIZES, patience=500_000, streams=StreamFaults(short_reads=0.5, short_writes=0.5))
DEATHS = DriverShape(sizes=SIZES, patience=PATIENCE, faults=FaultCounts(crashes=6))
RESETS = DriverShape(sizes=SIZES, patience=PATIENCE, faults=FaultCounts(resets=10))
IMPATIENT = DriverShape(sizes=SIZES, patience=PATIENCE, cancellations=0.5, calls_max=4)
DYING = DriverShape(sizes=SIZES, patience=PATIENCE, faults=FaultCounts(client_deaths=6))
# So slow that the loop, which trusts every disk here, gives most jobs up half-way.
SLOW = DriverShape(sizes=attrs.evolve(SIZES, disk=DiskSpeed(step_min=44_000)))


def lose_what_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that arrives in two reads loses its first part."""
    feed = FrameReader.feed

    def forgetful(self: FrameReader, data: bytes) -> list[Frame]:
        self.__init__()  # type: ignore[misc] # That is the mistake.
        return feed(self, data)

    monkeypatch.setattr(FrameReader, "feed", forgetful)


def take_short_writes_for_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel had no room for is forgotten."""
    write: Callable[[Outgoing, bytes], int] = vars(Outgoing)["_write"]

    def confident(self: Outgoing, data: bytes) -> int:
        return len(data) if write(self, data) else 0

    monkeypatch.setattr(Outgoing, "_write", confident)


def keep_the_place_of_the_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled call counts as in flight for ever."""
    call = vars(Client)["_call"]

    async def calling(self: Client, *arguments: Any) -> Any:  # Any: passed through.
        try:
            return await call(self, *arguments)
        except trio.Cancelled:
            room: trio.Semaphore = vars(self)["_room"]
            trio.lowlevel.spawn_system_task(room.acquire)  # As soon as it is free, and for good.
            raise

    monkeypatch.setattr(Client, "_call", calling)


def leave_callers_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that ends does not tell those who wait."""

    def close(self: Client) -> None:
        del self

    monkeypatch.setattr(Client, "_close", close)


def skip_the_step_at_a_hand_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop gives a job to the thread, which goes on behind the step that was due: often a flush."""

    def rest_of(job: StorageJob, step: Step) -> StorageJob:
        del step
        return job

    _trust_the_disk(monkeypatch)
    monkeypatch.setattr(disk_work, "_rest_of", rest_of)


def work_in_two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop works on the disk while the thread does."""

    def may_work_here(self: DiskWork, works: Sequence[Work]) -> bool:
        del self
        return len(works) > 0

    _trust_the_disk(monkeypatch)
    monkeypatch.setattr(DiskWork, "may_work_here", may_work_here)


def _trust_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = FlushPolicy.__init__

    def trusting(self: FlushPolicy) -> None:
        begin(self)
        self.is_inline = True

    def note(self: FlushPolicy, seconds: float) -> None:
        del self, seconds

    monkeypatch.setattr(FlushPolicy, "__init__", trusting)
    monkeypatch.setattr(FlushPolicy, "note", note)


def leave_the_connection_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link to a peer that breaks is dialled again, and the old stream is nobody's."""
    use = vars(PeerChannel)["_use"]

    async def careless(self: PeerChannel, stream: Any) -> None:  # Any: the mutant's stream closes nothing.
        class Unclosed:
            def __getattr__(self, name: str) -> object:
                return getattr(stream, name)

            async def __aenter__(self) -> object:
                return stream

            async def __aexit__(self, *_: object) -> None:
                await trio.lowlevel.checkpoint()

        await use(self, Unclosed())

    monkeypatch.setattr(PeerChannel, "_use", careless)


def listen_without_keep_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks after connections whose other end lost its power."""
    monkeypatch.setattr(streams, "KEEPALIVE_US", 1 << 60)


def answer_the_last_who_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """All client connections have one tag: replies go to whoever connected last."""

    def tags(_first: int) -> Generator[int, None, None]:
        while True:
            yield 2

    monkeypatch.setattr(transport, "count", tags)


def flush_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushes are left out: a job is reported done when everything is written, and nothing is safe."""

    def unflushed(job: StorageJob) -> StorageJob:
        result: object = None
        while True:
            try:
                step = job.send(result)
            except StopIteration as end:
                done: tuple[Completion, ...] = end.value
                return done
            result = None if type(step) is Flush else (yield step)

    take = DiskWork.take

    def hasty(self: DiskWork) -> StorageJob | None:
        job = take(self)
        return None if job is None else unflushed(job)

    monkeypatch.setattr(DiskWork, "take", hasty)


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], DriverShape, set[str]]] = [
    (lose_what_was_cut, PIECES, {"INV-33"}),
    (take_short_writes_for_whole, PIECES, {"INV-33"}),
    (keep_the_place_of_the_cancelled, IMPATIENT, {"INV-33"}),
    (leave_callers_behind, DYING, {"INV-33"}),
    (skip_the_step_at_a_hand_over, SLOW, {"INV-8"}),
    (work_in_two_places, SLOW, {"AssertionError"}),
    (flush_later, CALM, {"INV-8"}),
    (leave_the_connection_open, RESETS, {"leak"}),
    (listen_without_keep_alive, DEATHS, {"leak"}),
    (answer_the_last_who_came, CALM, {"INV-33", "KeyError"}),
]


@pytest.mark.parametrize(("mutate", "plan", "rules"), MUTANTS, ids=[mutate.__name__ for mutate, _, _ in MUTANTS])
def test_a_planted_mistake_is_found(
    mutate: Callable[[pytest.MonkeyPatch], None], plan: DriverShape, rules: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    """With it, the right judge speaks within a few seeds; without it the same run is clean."""
    caplog.set_level(logging.CRITICAL, logger="trio_pb")
    for seed in SEEDS:
        with pytest.MonkeyPatch.context() as monkeypatch:
            mutate(monkeypatch)
            failure = run_driver(Choices(seed), plan).failure
        if failure is not None:
            assert failure.rule in rules, failure
            assert run_driver(Choices(seed), plan).failure is None
            return
    pytest.fail("not found")
