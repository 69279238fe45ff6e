"""Finding the primary, following it, and staying alive whatever connections do."""

from __future__ import annotations

import pytest

from tests.client.fake_cluster import OTHER_CLUSTER, World
from trio_pb.core.client_ports import ClientOptions, OutcomeKind
from trio_pb.core.messages import Greet, ReadMode, RejectCode, Request

HERE = ReadMode.LINEARIZABLE_HERE


def test_the_first_frame_is_a_greeting_and_pins_the_cluster() -> None:
    """Greet with no cluster first; later connections name the one that answered."""
    world = World()
    world.exchange()
    assert world.client.cluster == world.cluster.replicas[0].cluster
    world.kill("r0")
    world.cluster.lead(1)
    world.submit()
    world.run(1000)
    assert world.cluster.replica("r0").received[0] == Greet((1,), None)
    assert world.cluster.replica("r1").received[0] == Greet((1,), world.client.cluster)


def test_one_connection_carries_everything() -> None:
    """Found in the first greeting, the primary has the only connection."""
    world = World()
    world.cluster.lead(2)
    tokens = [world.submit() for _ in range(30)]
    world.run(1000)
    assert [replica.is_up for replica in world.cluster.replicas] == [False, False, True]
    assert [address for _, address in world.connects] == ["r0", "r2"]
    assert world.client.primary == 2
    for token in tokens:
        world.success(token)


def test_members_are_learned_from_a_greeting() -> None:
    """One address is enough to find all."""
    world = World(addresses=("r1",))
    world.cluster.lead(2)
    token = world.submit()
    world.run(100)
    assert world.success(token).replica == 2


def test_a_redirection_costs_no_wait() -> None:
    """A refusal that names the primary is followed at once."""
    world = World()
    world.submit()
    world.run(100)
    world.cluster.lead(2)
    before_ms = world.now_ms
    token = world.submit()
    world.run(5)
    assert world.success(token).replica == 2
    assert world.completed_ms[token] == before_ms


@pytest.mark.parametrize("told", [True, False])
def test_failover_gap_is_short(told: bool) -> None:
    """The primary dies; within 150 ms of there being another one the request is answered."""
    world = World()
    world.submit()
    world.run(100)
    world.cluster.lead(None, told=told)  # The others still point at the dead one, or at nobody.
    world.kill("r0")
    token = world.submit(b"survivor", for_ms=30_000)
    world.run(3000)
    assert token not in world.outcomes

    world.cluster.lead(1, told=False)
    before_ms = world.now_ms
    world.run(1000)
    assert world.success(token).replica == 1
    assert world.completed_ms[token] - before_ms <= 150


def test_a_paused_primary_is_left_for_the_next() -> None:
    """Connections to a stopped process stay up: silence is what tells."""
    world = World()
    world.submit()
    world.run(100)
    world.cluster.replica("r0").is_silent = True
    world.cluster.lead(1)
    before_ms = world.now_ms
    token = world.submit()
    world.run(2000)
    assert world.success(token).replica == 1
    assert world.completed_ms[token] - before_ms <= 500


def test_silent_addresses_do_not_hold_up_the_others() -> None:
    """Connections that never come up cost less than their timeout."""
    world = World()
    world.cluster.replica("r0").is_silent = world.cluster.replica("r1").is_silent = True
    world.cluster.lead(2)
    token = world.submit()
    world.run(2000)
    assert world.success(token).replica == 2
    assert world.completed_ms[token] <= 100


def test_a_dead_cluster_is_not_hammered() -> None:
    """Reconnection backs off to twice a second per address."""
    world = World()
    for replica in world.cluster.replicas:
        replica.is_alive = False
    world.submit(for_ms=60_000)
    world.run(10_000)
    last_second = [ms for ms, _ in world.connects if ms > 9000]
    assert 3 <= len(last_second) <= 15


def test_an_idle_client_asks_nobody() -> None:
    """Nothing waits: one connection, no timers, no traffic."""
    world = World()
    world.submit()
    world.run(1000)
    before = sum(len(replica.received) for replica in world.cluster.replicas)
    assert world.client.next_deadline_ms is None or world.client.next_deadline_ms > world.now_ms
    world.run(60_000)
    assert sum(len(replica.received) for replica in world.cluster.replicas) == before
    assert world.client.next_deadline_ms is None


def test_replicas_that_point_at_each_other_are_asked_at_a_measured_pace() -> None:
    """During a view change hints may go round in circles; we do not run after them."""
    world = World()
    world.submit()
    world.run(100)
    world.cluster.lead(None)
    world.cluster.replica("r0").points_at, world.cluster.replica("r1").points_at = 1, 0
    world.cluster.replica("r2").points_at = 0
    received = sum(len(replica.received) for replica in world.cluster.replicas)
    world.submit(for_ms=10_000)
    world.run(1000)
    assert sum(len(replica.received) for replica in world.cluster.replicas) - received < 150


def test_another_cluster_is_refused_and_named() -> None:
    """All addresses belong to a foreign cluster: requests fail at once, saying so."""
    world = World(ClientOptions(cluster=b"E" * 16))
    token = world.submit()
    world.run(1000)
    failure = world.failure(token)
    assert (failure.kind, failure.reason) == (OutcomeKind.NOT_SENT, "wrong_cluster")
    assert world.completed_ms[token] < 200


def test_one_foreign_address_among_ours_does_no_harm() -> None:
    """A stray address is left alone and named while nothing else answers."""
    world = World()
    world.cluster.replicas[1].cluster = OTHER_CLUSTER
    world.submit()
    world.run(100)
    world.kill("r0")
    world.cluster.lead(2)
    token = world.submit()
    world.run(1000)
    assert world.success(token).replica == 2


def test_whatever_breaks_requests_are_answered_afterwards() -> None:
    """Every connection breaks again and again; then a quiet moment is enough."""
    world = World()
    tokens = [world.submit(b"%d" % i, for_ms=60_000) for i in range(40)]
    for round_ in range(50):
        world.run(7)
        world.cut(f"r{round_ % 3}")
        if round_ % 5 == 0:
            world.cluster.lead(round_ % 3, keep_admitted=round_ % 2 == 0)
    world.run(5000)
    for token in tokens:
        world.success(token)
    assert sorted(world.cluster.executed) == sorted(b"%d" % i for i in range(40))


def test_a_deposed_primary_that_does_not_know_is_not_believed() -> None:
    """Its greeting names itself, in a view that is over."""
    world = World(ClientOptions(read_from="r2"))
    world.cluster.replica("r2").points_at = 2
    first = world.submit()
    world.run(100)
    read = world.read(mode=HERE)
    world.run(100)
    second = world.submit()
    world.run(100)
    assert world.success(read).replica == 2
    assert (world.success(first).replica, world.success(second).replica) == (0, 0)
    assert not [message for message in world.cluster.replica("r2").received if type(message) is Request]


def test_while_the_primary_is_silent_nothing_more_becomes_uncertain() -> None:
    """A request that comes when the primary is in doubt waits here, and was not sent."""
    world = World()
    world.submit()
    world.run(100)
    for replica in world.cluster.replicas:
        replica.is_silent = True
    sent = world.submit(for_ms=2000)
    world.run(500)
    kept = world.submit(for_ms=1000)
    world.run(2000)
    assert world.failure(sent).kind is OutcomeKind.UNKNOWN
    assert world.failure(kept).kind is OutcomeKind.NOT_SENT


# --- Reads ------------------------------------------------------------------------------------


def test_a_read_is_repeated_freely() -> None:
    """Its only transmission is lost with its connection: the next one answers."""
    world = World()
    world.run(100)
    world.cluster.replica("r0").is_silent = True
    token = world.read(b"k")
    world.run(10)
    world.kill("r0")
    world.cluster.lead(1)
    world.run(1000)
    success = world.success(token)
    assert (success.replica, success.reply.result) == (1, b"read k")
    assert not world.cluster.executed


def test_a_read_past_its_deadline_has_no_effect() -> None:
    """Sent or not, a read that got no answer changed nothing."""
    world = World()
    world.run(100)
    for replica in world.cluster.replicas:
        replica.is_silent = True
    token = world.read(for_ms=500)
    world.run(1000)
    failure = world.failure(token)
    assert (failure.kind, failure.reason) == (OutcomeKind.NOT_APPLIED, "deadline")


def test_reads_here_go_to_the_preferred_replica() -> None:
    """The primary is spared; when the preferred replica is gone, any other answers."""
    world = World(ClientOptions(read_from="r2"))
    first = world.read(mode=HERE)
    write = world.submit()
    world.run(100)
    assert world.success(first).replica == 2
    assert world.success(write).replica == 0
    world.kill("r2")
    second = world.read(mode=HERE)
    world.run(1000)
    assert world.success(second).replica == 0


def test_pages_go_to_the_replica_that_gave_the_cursor() -> None:
    """A snapshot lives at one replica, whoever leads meanwhile."""
    world = World()
    first = world.read(code=3)
    world.run(100)
    cursor = world.success(first).reply.cursor
    world.cluster.lead(1)
    write = world.submit()
    world.run(1000)
    assert world.success(write).replica == 1
    second = world.read(code=3, cursor=cursor)
    world.run(1000)
    assert world.success(second).replica == 0


def test_a_snapshot_that_is_gone_ends_the_scan() -> None:
    """Told by the replica, or because nobody here ever got that cursor."""
    world = World()
    stranger = world.read(code=3, cursor=b"stranger")
    assert world.failure(stranger).reason == "snapshot_gone"
    first = world.read(code=3)
    world.run(100)
    world.cluster.replica("r0").refuse_with = RejectCode.SNAPSHOT_GONE
    second = world.read(code=3, cursor=world.success(first).reply.cursor)
    world.run(100)
    assert world.failure(second).reason == "snapshot_gone"


def test_a_scan_ends_when_the_replica_of_its_snapshot_is_gone() -> None:
    """Nobody else has the state that its pages show: it is not waited for until the deadline, which may be far."""
    world = World()
    first = world.read(code=3)
    world.run(100)
    world.cluster.lead(1)
    world.kill("r0")
    second = world.read(code=3, cursor=world.success(first).reply.cursor, for_ms=600_000)
    world.run(29_000)
    assert second not in world.outcomes
    world.run(2_000)
    failure = world.failure(second)
    assert (failure.kind, failure.reason) == (OutcomeKind.NOT_SENT, "snapshot_gone")
    third = world.read(code=3, cursor=world.success(first).reply.cursor, for_ms=600_000)
    world.run(10)
    assert world.failure(third).reason == "snapshot_gone"


def test_certainty_is_not_spent_on_asking_who_leads() -> None:
    """Looking for a primary repeats refused transmissions only: the deadline then says NOT_APPLIED."""
    world = World()
    world.submit()
    world.run(100)
    world.cluster.lead(None)
    token = world.submit(b"asking", for_ms=2000)
    world.run(3000)
    failure = world.failure(token)
    assert (failure.kind, failure.reason) == (OutcomeKind.NOT_APPLIED, "not_primary")
    sent = [m for replica in world.cluster.replicas for m in replica.received if type(m) is Request and m.number == 2]
    assert len(sent) > 10


def test_a_half_open_connection_is_given_up() -> None:
    """A replica that led nobody lost power and came back to lead: the old connection tells us nothing of it."""
    world = World(addresses=("r0",))
    world.cluster.lead(None)
    token = world.submit(for_ms=20_000)
    world.run(500)
    world.cluster.replica("r0").is_half_open = True
    world.cluster.lead(0)
    world.run(10_000)
    assert world.success(token).replica == 0
