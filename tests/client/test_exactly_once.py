"""Whatever happens to connections, replicas and sessions: each outcome is true, and there is exactly one.

One client runs against the naive cluster of `fake_cluster`, one small event at a time; everything heals at
the end. Hypothesis looks for short scripts, which it can shrink; long random walks get to states that
take many events in the right order.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.client.fake_cluster import ADDRESSES, World
from trio_pb.core.client_ports import Cancel, ClientOptions, OutcomeKind, Success
from trio_pb.core.messages import ReadMode, RejectCode

REPLICAS = st.integers(0, 2)
REFUSALS = st.sampled_from([None, None, RejectCode.BUSY, RejectCode.BAD_REQUEST])


class ExactlyOnce(RuleBasedStateMachine):
    """The events, and what must hold after each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.bodies: dict[int, bytes] = {}  # Token -> its body, unlike all others.
        self.lanes: dict[bytes, int] = {}
        self.reads: set[int] = set()

    @initialize(sessions=st.integers(1, 3), window=st.integers(1, 8), queue=st.integers(3, 40))
    def begin(self, sessions: int, window: int, queue: int) -> None:
        """A small client, so that its bounds are met."""
        options = ClientOptions(sessions_max=sessions, window_max=window, queue_max=queue, read_from="r2")
        self.world = World(options)
        self.submit(1, 20_000, None)
        self.world.run(100)  # In most runs things begin to go wrong only later.

    # --- What callers do ------------------------------------------------------------------------

    @rule(count=st.integers(1, 12), for_ms=st.sampled_from([1, 40, 700, 20_000]), lane=st.none() | st.integers(0, 4))
    def submit(self, count: int, for_ms: int, lane: int | None) -> None:
        """A burst of commands."""
        for _ in range(count):
            body = b"%d" % (self.world.tokens + 1)
            self.bodies[self.world.tokens + 1] = body
            if lane is not None:
                self.lanes[body] = lane
            self.world.submit(body, for_ms=for_ms, lane=lane)

    @rule(mode=st.sampled_from(list(ReadMode)), for_ms=st.sampled_from([40, 20_000]))
    def read(self, mode: ReadMode, for_ms: int) -> None:
        """One query."""
        self.reads.add(self.world.read(mode=mode, for_ms=for_ms))

    @rule(back=st.integers(0, 20))
    def cancel(self, back: int) -> None:
        """Somebody stops waiting; perhaps it is too late."""
        self.world.step(Cancel(max(1, self.world.tokens - back)))

    # --- What the world does --------------------------------------------------------------------

    @rule()
    def pass_time(self) -> None:
        """The next timer fires."""
        deadline = self.world.client.next_deadline_ms
        if deadline is not None:
            self.world.now_ms = deadline
            self.world.step()

    @rule(ms=st.sampled_from([1, 30, 300, 3000]))
    def sleep(self, ms: int) -> None:
        """Nobody looked at the timers for a while."""
        self.world.now_ms += ms
        self.world.step()

    @rule(for_ms=st.sampled_from([0, 0, 50, 600]))
    def good_moment(self, for_ms: int) -> None:
        """All that is under way arrives, for a while."""
        self.world.run(for_ms)

    @precondition(lambda self: self.world.connecting)
    @rule(which=REPLICAS)
    def connect(self, which: int) -> None:
        """One connection attempt ends."""
        self.world.connect_one(self.world.connecting[which % len(self.world.connecting)])

    @rule(which=REPLICAS, count=st.integers(1, 5))
    def carry_in(self, which: int, count: int) -> None:
        """Some messages reach a replica."""
        replica = self.world.cluster.replicas[which]
        for _ in range(count):
            if replica.is_up and replica.inbox and not replica.is_silent:
                self.world.cluster.receive(replica, replica.inbox.popleft())

    @rule(which=REPLICAS, count=st.integers(1, 5))
    def carry_out(self, which: int, count: int) -> None:
        """Some answers reach the client, in one step."""
        replica = self.world.cluster.replicas[which]
        self.world.deliver(replica, min(count, len(replica.outbox)))

    @rule(which=REPLICAS)
    def cut(self, which: int) -> None:
        """A connection breaks, with all that is under way on it."""
        self.world.cut(ADDRESSES[which])

    @rule(which=REPLICAS, is_alive=st.sampled_from([True, True, False]))
    def kill_or_start(self, which: int, is_alive: bool) -> None:
        """A process dies or comes back."""
        self.world.cluster.replicas[which].is_alive = is_alive
        if not is_alive:
            self.world.cut(ADDRESSES[which])

    @rule(which=REPLICAS, is_silent=st.sampled_from([True, False, False]))
    def pause_or_go_on(self, which: int, is_silent: bool) -> None:
        """A process stops, its connections stay."""
        self.world.cluster.replicas[which].is_silent = is_silent

    @rule(primary=st.none() | REPLICAS, keep=st.booleans(), told=st.booleans())
    def move_primary(self, primary: int | None, keep: bool, told: bool) -> None:
        """A view change, with or without what was admitted and not ordered."""
        self.world.cluster.lead(primary, keep_admitted=keep, told=told)

    @rule(is_ordering=st.booleans())
    def order(self, is_ordering: bool) -> None:
        """What was admitted is ordered; later requests are at once, or wait for the next time."""
        self.world.cluster.order()
        self.world.cluster.is_ordering = is_ordering

    @rule(which=REPLICAS, code=REFUSALS, retry_ms=st.sampled_from([0, 50, 5000]))
    def refuse(self, which: int, code: RejectCode | None, retry_ms: int) -> None:
        """A replica begins or ceases to refuse whatever comes."""
        replica = self.world.cluster.replicas[which]
        replica.refuse_with, replica.retry_ms = code, retry_ms

    @precondition(lambda self: self.world.cluster.sessions)
    @rule(which=st.integers(0, 100))
    def evict(self, which: int) -> None:
        """The session table was full."""
        clients = list(self.world.cluster.sessions)
        del self.world.cluster.sessions[clients[which % len(clients)]]

    # --- What must hold -------------------------------------------------------------------------

    @invariant()
    def outcomes_are_true(self) -> None:
        """Success means one effect, NOT_SENT and NOT_APPLIED none, then and for ever after."""
        executed = self.world.cluster.executed
        assert len(set(executed)) == len(executed), "a request was executed twice"
        effects = set(executed)
        for token, body in self.bodies.items():
            outcome = self.world.outcomes.get(token)
            if isinstance(outcome, Success):
                assert body in effects
                assert outcome.reply.result == b"did " + body
            elif outcome is not None and outcome.kind is not OutcomeKind.UNKNOWN:
                assert body not in effects, f"{outcome} was executed"

    @invariant()
    def lanes_are_in_order(self) -> None:
        """Of one lane, nothing overtakes."""
        for lane in range(5):
            mine = [int(body) for body in self.world.cluster.executed if self.lanes.get(body) == lane]
            assert mine == sorted(mine)

    def teardown(self) -> None:
        """All heals: every token gets its outcome, and in the end nothing is left to do."""
        world = self.world
        for replica in world.cluster.replicas:
            replica.is_alive, replica.is_silent, replica.refuse_with = True, False, None
        world.cluster.is_ordering = True
        world.cluster.lead(1, keep_admitted=True)
        open_tokens = [token for token in [*self.bodies, *self.reads] if token not in world.outcomes]
        deadlines = world.now_ms + 8000
        world.run(8000)
        late = [t for t in open_tokens if t not in world.outcomes]
        assert not late, f"tokens {late} have no outcome at {deadlines} ms"
        assert not world.client.has_work
        assert world.client.outstanding == 0
        self.outcomes_are_true()
        self.lanes_are_in_order()


TestExactlyOnce = ExactlyOnce.TestCase
TestExactlyOnce.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize("seed", range(60))
def test_long_random_walks(seed: int) -> None:
    """Hundreds of events, mostly work, sometimes trouble, checked after each."""
    random = Random(seed)
    walk = ExactlyOnce()
    walk.begin(random.choice([1, 1, 3]), random.choice([2, 8]), 40)

    def submit() -> None:
        walk.submit(random.choice([1, 3]), random.choice([40, 700, 20_000]), random.choice([None, 0, 1]))

    def reply_is_lost() -> None:
        walk.order(True)
        walk.cut(0 if walk.world.cluster.primary is None else walk.world.cluster.primary)

    events: dict[Callable[[], object], int] = {
        submit: 8,
        lambda: walk.read(random.choice(list(ReadMode)), 700): 1,
        lambda: walk.cancel(random.randrange(6)): 1,
        walk.pass_time: 12,
        lambda: walk.sleep(random.choice([1, 30])): 3,
        lambda: walk.good_moment(random.choice([0, 0, 0, 50])): 10,
        lambda: walk.carry_in(random.randrange(3), 2): 4,
        lambda: walk.carry_out(random.randrange(3), 2): 4,
        lambda: walk.cut(random.randrange(3)): 1,
        reply_is_lost: 1,
        lambda: walk.kill_or_start(random.randrange(3), random.random() < 0.7): 1,
        lambda: walk.pause_or_go_on(random.randrange(3), random.random() < 0.2): 3,
        lambda: walk.move_primary(random.choice([None, 0, 1, 2, 2]), random.random() < 0.5, random.random() < 0.5): 1,
        lambda: walk.order(random.random() < 0.6): 4,
        lambda: walk.refuse(
            random.randrange(3), random.choice([None, None, RejectCode.BUSY, RejectCode.BAD_REQUEST]), 50
        ): 2,
        lambda: walk.world.cluster.sessions and walk.evict(random.randrange(9)): 1,
    }
    for event in random.choices(list(events), list(events.values()), k=500):
        event()
        walk.outcomes_are_true()
        walk.lanes_are_in_order()
    walk.teardown()
