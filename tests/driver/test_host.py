"""The loop that owns a replica: one step for all that is ready, and outputs in their order."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock, memory_stream_pair, wait_all_tasks_blocked

from tests.driver.fakes import (
    CLUSTER,
    FakeCore,
    FakeDisk,
    FakeMachine,
    FakeStore,
    make_message,
    make_send,
    make_start,
    make_superblock,
    make_transport,
    receive_messages,
)
from trio_pb.codec.wire import Message, encode_client
from trio_pb.core.manifest import Chunk, CoreState, Manifest
from trio_pb.core.messages import CheckpointId, Greet, Reply, Request
from trio_pb.core.ports import (
    Answer,
    Applied,
    Apply,
    ApplyItem,
    CheckpointBegin,
    CheckpointDone,
    Fatal,
    FromClient,
    Input,
    Install,
    Link,
    Output,
    Queried,
    Query,
    QueryItem,
    Requires,
    SuperblockDone,
    SuperblockWrite,
    Tick,
    ToClient,
    Trace,
    TransferDone,
    WalAppend,
    WalDone,
    WalRead,
    WalReadDone,
)
from trio_pb.driver.clock import Clock
from trio_pb.driver.disk_thread import DiskThread
from trio_pb.driver.disk_work import DiskWork
from trio_pb.driver.durability import Durability
from trio_pb.driver.events import EventLog
from trio_pb.driver.flush_policy import TRIAL_JOBS, FlushPolicy
from trio_pb.driver.host import SLICE_BYTES, ReplicaHost
from trio_pb.driver.inbox import Inbox
from trio_pb.driver.opening import CopiesDamaged
from trio_pb.errors import ReplicaStoppedError
from trio_pb.storage.checkpointer import Checkpointer
from trio_pb.storage.work import (
    CheckpointClaim,
    CheckpointClaimed,
    CheckpointFinish,
    CheckpointWrite,
    CheckpointWritten,
    Completion,
    InstallRead,
    InstallReadDone,
    Work,
)

Stream = trio.StapledStream[MemorySendStream, MemoryReceiveStream]
GREET = encode_client(None, Greet((1,), None))


def complete(work: Work) -> Completion:
    """What a store completes with."""
    match work:
        case WalAppend():
            return WalDone(work.sequence)
        case SuperblockWrite():
            return SuperblockDone(work.sequence)
        case WalRead():
            return WalReadDone(work.id, None)
        case CheckpointClaim():
            return CheckpointClaimed(work.serial, frozenset())
        case CheckpointWrite():
            return CheckpointWritten(work.serial, sum(len(data) for _, data in work.chunks))
        case CheckpointFinish():
            return CheckpointDone(work.id)
        case InstallRead():
            return install_read(work)
        case _:
            raise AssertionError(f"{work} is not for this store")


def install_read(work: InstallRead) -> InstallReadDone:
    """A checkpoint of one chunk."""
    chunk = Chunk(0, b"d" * 32, 3)
    state = checkpoint_of(work.target.op).state
    manifest = Manifest(cluster=CLUSTER, state=state, sessions=(), application=(chunk,))
    return InstallReadDone(work.target, manifest, 0, (b"abc",))


class StoppedClock(Clock):
    """Time does not pass: no Ticks among the inputs, however slow the machine."""

    def now_tick(self) -> int:
        """Always the first."""
        return 0


class World:
    """A host between a scripted core and fakes."""

    def __init__(self, core: FakeCore, clock: Clock | None = None) -> None:
        self.core = core
        self.machine = FakeMachine()
        self.inbox = Inbox()
        self.fake_disk = FakeDisk()
        self.flush_policy = FlushPolicy()
        self.checkpointer = Checkpointer(self.machine)
        self.store = FakeStore(complete)
        self.disk = DiskWork(
            self.store, self.fake_disk, self.inbox, DiskThread(), sift=self.checkpointer.sift, policy=self.flush_policy
        )
        self.peers: list[tuple[str, Stream]] = []  # Addresses and far ends, two per peer.
        self.transport = make_transport(core, self.inbox, dial=self._dial)
        start = make_start()
        self.host = ReplicaHost(
            core=core,
            start=start,
            machine=self.machine,
            clock=clock or StoppedClock(),
            inbox=self.inbox,
            disk=self.disk,
            checkpointer=self.checkpointer,
            events=EventLog(start, CopiesDamaged(), counters=lambda: ()),
            transport=self.transport,
            durability=Durability(start),
        )

    async def _dial(self, address: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = memory_stream_pair()
        self.peers.append((address, theirs))
        return ours

    async def receive_at(self, address: str) -> list[Message]:
        """The first messages that come to a peer, over whichever of its connections."""
        found: list[Message] = []
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:

                async def receive(stream: Stream) -> None:
                    found.extend(await receive_messages(stream, 1))
                    nursery.cancel_scope.cancel()

                for peer, stream in self.peers:
                    if peer == address:
                        nursery.start_soon(receive, stream)
        return found


@asynccontextmanager
async def running(world: World) -> AsyncGenerator[None, None]:
    """Run the host and its connections until the block ends."""
    async with trio.open_nursery() as nursery:
        world.disk.start()
        nursery.start_soon(world.transport.run_links)
        await wait_all_tasks_blocked()
        world.host.take_first_turn()
        nursery.start_soon(world.host.run)
        await wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()
    assert await world.disk.close(5)


def on(trigger: Input, *outputs: Output) -> FakeCore:
    """A core that answers `trigger` with `outputs` and everything else with nothing."""
    return FakeCore(lambda inputs: list(outputs) if trigger in inputs else [])


TRIGGER = Link(peer=None, connection=99, up=False)


async def test_the_first_input_is_what_the_storage_held() -> None:
    """Start comes first and alone."""
    world = World(FakeCore())
    async with running(world):
        assert world.core.steps[0] == [make_start()]


async def test_all_that_is_ready_is_one_step() -> None:
    """Batches form by themselves."""
    world = World(FakeCore())
    async with running(world):
        world.inbox.put([WalDone(1)])
        world.inbox.put([WalDone(2), TRIGGER])
        await wait_all_tasks_blocked()
    assert [WalDone(1), WalDone(2), TRIGGER] in world.core.steps


async def test_a_tick_comes_last_and_only_when_time_passed(autojump_clock: MockClock) -> None:
    """A paused process hears first what waited; many ticks come as one."""
    core = FakeCore()
    core.next_deadline_tick = 7

    def script(inputs: list[Input]) -> list[Output]:
        if not inputs:  # Only a Tick: the timer fired.
            core.next_deadline_tick = 1 << 40
        return []

    core.script = script
    world = World(core, Clock())
    async with running(world):
        await trio.sleep(0.5)
        assert [type(one) for step in core.steps for one in step].count(Tick) == 1
        woken = core.steps[-1]
        assert isinstance(woken[0], Tick)
        assert woken[0].ticks == 7
        world.inbox.put([TRIGGER])
        await wait_all_tasks_blocked()
        assert core.steps[-1][0] == TRIGGER
        last = core.steps[-1][1]
        assert isinstance(last, Tick)
        assert last.ticks == 43


async def test_a_deadline_in_the_past_is_looked_at_once_per_tick(autojump_clock: MockClock) -> None:
    """A core that keeps an old deadline costs no busy loop."""
    core = FakeCore()
    core.next_deadline_tick = 0
    async with running(World(core, Clock())):
        await trio.sleep(1.005)
    assert [type(one) for one in core.inputs].count(Tick) == 100


async def test_applied_is_fed_to_another_step_of_the_same_turn() -> None:
    """Nothing comes between execution and its replies, not even what arrives meanwhile."""
    apply = Apply(1, 10, 1, (ApplyItem(0, b"c" * 16, 2, b"abc"), ApplyItem(1, b"c" * 16, 2, b"de")))
    query = Query(1, 0, (QueryItem(5, 2, 2, b"", b""),))
    world = World(on(TRIGGER, apply, query))
    async with running(world):
        world.inbox.put([TRIGGER])
        await wait_all_tasks_blocked()
    at = world.core.steps.index([TRIGGER])
    assert world.core.steps[at + 1] == [Applied(1, (b"cba", b"ed")), Queried((Answer(5, b"2", b"", ""),))]
    assert world.machine.executed == [b"abc", b"de"]


async def test_a_send_is_encoded_once_and_leaves_before_storage_work_is_done() -> None:
    """Prepares go out while the disk still flushes; completions come back as inputs."""
    message = make_message(7)
    world = World(on(TRIGGER, WalAppend(1, (), None), WalRead(make_superblock().commit), make_send(message, 1, 2)))
    async with running(world):
        world.fake_disk.gate.clear()
        world.inbox.put([TRIGGER])
        await wait_all_tasks_blocked()
        assert await world.receive_at("b:1") == [message]
        assert await world.receive_at("c:1") == [message]
        assert WalDone(1) not in world.core.inputs
        world.fake_disk.gate.set()
        with trio.fail_after(5):
            await world.host.wait_until(lambda: WalDone(1) in world.core.inputs)
    assert [WalDone(1), WalReadDone(make_superblock().commit, None)] in world.core.steps


async def test_a_send_before_its_write_is_durable_stops_everything() -> None:
    """The check is an assert: our own core broke the rule (R-OUT2)."""
    image = make_superblock(view=1025)
    early = make_send(make_message(1), 1, requires=Requires(1025, 0, 0))
    world = World(on(TRIGGER, SuperblockWrite(1, image), early))
    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="R-OUT2"), flatten_subgroups=True):
        async with running(world):
            world.inbox.put([TRIGGER])
            await trio.sleep_forever()
    assert await world.disk.close(5)


async def test_the_same_send_after_its_write_is_fine() -> None:
    """Causality: the completion came in first."""
    image = make_superblock(view=1025)
    late = make_send(make_message(1), 1, requires=Requires(1025, 0, 0))

    def script(inputs: list[Input]) -> list[Output]:
        if TRIGGER in inputs:
            return [SuperblockWrite(1, image)]
        return [late] if SuperblockDone(1) in inputs else []

    world = World(FakeCore(script))
    async with running(world):
        world.inbox.put([TRIGGER])
        assert await world.receive_at("b:1") == [make_message(1)]


def checkpoint_of(op: int) -> CheckpointBegin:
    """The core wants the state after `op` kept."""
    superblock = make_superblock()
    state = CoreState(
        op=op,
        checksum=superblock.commit.checksum,
        last_timestamp=1,
        release=1,
        configuration=superblock.configuration,
        probe=bytes(16),
        sessions=(),
    )
    return CheckpointBegin(CLUSTER, state)


async def test_a_checkpoint_is_frozen_in_its_place_among_the_applies_and_written_in_slices() -> None:
    """What is applied after it, be it in the same step, is no part of it; everybody is served meanwhile."""
    bodies = [bytes([number]) * SLICE_BYTES for number in range(9)]
    items = tuple(ApplyItem(number, b"c" * 16, 2, body) for number, body in enumerate(bodies))
    later = Apply(2, 10, 1, (ApplyItem(0, b"c" * 16, 2, b"later"),))
    asked = Link(peer=None, connection=98, up=False)
    world = World(on(TRIGGER, Apply(1, 10, 1, items), checkpoint_of(1), later))
    encoded_after: list[int] = []  # Steps.
    world.machine.on_encode = lambda: encoded_after.append(len(world.core.steps))
    async with running(world):
        world.inbox.put([TRIGGER])
        await trio.lowlevel.checkpoint()
        while not any(isinstance(one, CheckpointDone) for one in world.core.inputs):
            world.inbox.put([asked])
            await trio.lowlevel.checkpoint()
    written = [[data for _, data in work.chunks] for work in world.store.works if isinstance(work, CheckpointWrite)]
    assert written == [[body] for body in bodies]  # A slice each.
    assert world.machine.executed == [*bodies, b"later"]
    assert world.machine.frozen[0].is_released
    # Who is ready has a turn in the pass that follows, so between any three slices there is one.
    assert len(encoded_after) == 9
    assert len(set(encoded_after)) >= 4, "others had turns in between"


async def test_a_checkpoint_that_does_not_decode_stops_the_replica() -> None:
    """Verified bytes that mean nothing here: another release wrote them."""
    world = World(on(TRIGGER, Install(CheckpointId(64, b"m" * 32))))
    world.machine.is_restorable = False
    world.disk.start()
    world.host.take_first_turn()
    world.inbox.put([TRIGGER])
    with pytest.raises(ReplicaStoppedError, match="a verified chunk does not decode"):
        await world.host.run()
    assert await world.disk.close(5)


async def trust_the_disk(world: World) -> None:
    """Make a trial pass."""
    for _ in range(TRIAL_JOBS):
        world.flush_policy.note(0.0)
    with trio.fail_after(5):
        while not world.disk.may_work_here([]):
            await trio.lowlevel.checkpoint()


async def test_on_a_fast_disk_storage_work_is_done_in_the_turn_that_asked_for_it() -> None:
    """Execution comes before it, what it completes after it, and what that allows may be sent."""
    apply = Apply(1, 10, 1, (ApplyItem(0, b"c" * 16, 2, b"abc"),))
    image = make_superblock(view=1025)
    late = make_send(make_message(1), 1, requires=Requires(1025, 0, 0))

    def script(inputs: list[Input]) -> list[Output]:
        if TRIGGER in inputs:
            return [WalAppend(1, (), None), apply]
        if WalDone(1) in inputs:
            return [SuperblockWrite(1, image)]
        return [late] if SuperblockDone(1) in inputs else []

    world = World(FakeCore(script))
    async with running(world):
        await trust_the_disk(world)
        before = world.host.turns
        world.inbox.put([TRIGGER])
        assert await world.receive_at("b:1") == [make_message(1)]
        assert world.host.turns == before + 1
        assert world.core.steps[-4:] == [[TRIGGER], [Applied(1, (b"cba",))], [WalDone(1)], [SuperblockDone(1)]]
        assert world.disk.jobs_here == 2


async def test_a_disk_error_in_the_loop_stops_the_replica_with_its_message() -> None:
    """R-IOERR, on a fast disk; the core hears of no completion."""
    world = World(on(TRIGGER, WalAppend(1, (), None)))
    world.disk.start()
    world.host.take_first_turn()
    await trust_the_disk(world)
    world.fake_disk.fail("log/3: flush failed: EIO")
    world.inbox.put([TRIGGER])
    with pytest.raises(ReplicaStoppedError, match="log/3: flush failed: EIO"):
        await world.host.run()
    assert world.core.steps[-1] == [TRIGGER]
    assert await world.disk.close(5)


async def test_what_a_turn_raises_in_a_strangers_task_stops_the_replica() -> None:
    """Who put the input hears nothing of it."""
    request = FromClient(2, Request(b"x" * 16, 7, 1, 2, b""))
    world = World(on(request, Fatal("divergence", "replace this replica")))
    world.disk.start()
    world.host.take_first_turn()

    async def put() -> None:
        await wait_all_tasks_blocked()
        world.inbox.put_clients([request], now=True)
        assert world.core.steps[-1] == [request], "the turn was taken right there"
        world.inbox.put_clients([request], now=True)
        assert len(world.core.steps) == 2, "and no other after it"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put)
        with pytest.raises(ReplicaStoppedError, match="divergence"):
            await world.host.run()
    assert await world.disk.close(5)


async def test_replies_of_a_turn_leave_joined() -> None:
    """One send per connection, whatever the number of replies."""
    request = Request(b"x" * 16, 7, 1, 2, b"")
    replies = [Reply(b"x" * 16, 7, n, 1, 0, n, replayed=False, result=b"") for n in range(3)]

    def script(inputs: list[Input]) -> list[Output]:
        return [ToClient(2, reply) for reply in replies] if FromClient(2, request) in inputs else []

    world = World(FakeCore(script))
    async with running(world), trio.open_nursery() as nursery:
        client, ours = memory_stream_pair()
        nursery.start_soon(world.transport.serve, ours)
        await client.send_all(GREET + encode_client(CLUSTER, request))
        assert (await receive_messages(client, 4))[1:] == replies
        await client.aclose()


async def test_fatal_stops_the_replica_with_its_reason() -> None:
    """No exception group around it."""
    world = World(on(TRIGGER, Trace("about_to_die", (("op", 3),)), Fatal("divergence", "replace this replica")))
    world.disk.start()
    world.host.take_first_turn()
    world.inbox.put([TRIGGER])
    with pytest.raises(ReplicaStoppedError, match="divergence: replace this replica") as caught:
        await world.host.run()
    assert caught.value.reason == "divergence"
    assert await world.disk.close(5)


async def test_a_disk_error_stops_the_replica_with_its_message() -> None:
    """R-IOERR, through the whole driver."""
    world = World(on(TRIGGER, WalAppend(1, (), None)))
    world.fake_disk.fail("log/3: flush failed: EIO")
    world.disk.start()
    world.host.take_first_turn()
    world.inbox.put([TRIGGER])
    with pytest.raises(ReplicaStoppedError, match="log/3: flush failed: EIO"):
        await world.host.run()
    assert await world.disk.close(5)


async def test_whoever_asked_for_a_transfer_hears_that_it_is_done() -> None:
    """The graceful stop waits for this."""
    world = World(on(TRIGGER, TransferDone(handed_over=True)))
    async with running(world):
        world.inbox.put([TRIGGER])
        with trio.fail_after(5):
            await world.host.wait_transfer_done()


async def test_traces_are_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    """With names and numbers."""
    world = World(on(TRIGGER, Trace("view_entered", (("view", 1025),))))
    with caplog.at_level("DEBUG", "trio_pb.driver.events"):
        async with running(world):
            world.inbox.put([TRIGGER])
            await wait_all_tasks_blocked()
    assert "view_entered view=1025" in caplog.text
