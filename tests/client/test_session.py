"""Numbers, windows and what is certain about a request (PROTOCOL 5.4)."""

from __future__ import annotations

import pytest

from tests.client.fake_cluster import WINDOW, World
from trio_pb.core.client_ports import Cancel, ClientOptions, Disconnected, OutcomeKind, Submit
from trio_pb.core.cluster_client import ClusterClient
from trio_pb.core.messages import CODE_EMPTY, RejectCode, Request
from trio_pb.errors import ConfigError, LocalProtocolError

ONE_SESSION = ClientOptions(sessions_max=1)


def requests_at(world: World, address: str) -> list[Request]:
    """The requests of sessions, without registrations, that a replica has received."""
    received = world.cluster.replica(address).received
    return [message for message in received if type(message) is Request and message.number > 0]


def test_a_request_is_executed_once_and_its_receipt_returned() -> None:
    """The way of one request: greet, register, request, receipt."""
    world = World()
    token = world.submit(b"laptop")
    world.run(1000)

    success = world.success(token)
    assert success.reply.result == b"did laptop"
    assert (success.replica, success.connection) == (0, world.cluster.replica("r0").connection)
    assert world.cluster.executed == [b"laptop"]
    assert world.client.outstanding == 0


def test_numbers_of_a_session_are_one_two_three() -> None:
    """No number is skipped, and the order of submission is that of execution."""
    world = World(ONE_SESSION)
    bodies = [bytes([i]) for i in range(20)]
    tokens = [world.submit(body) for body in bodies]
    world.run(1000)

    assert world.cluster.executed == bodies
    assert [request.number for request in requests_at(world, "r0")] == list(range(1, 21))
    assert [world.success(token).reply.result for token in tokens] == [b"did " + body for body in bodies]


def test_number_k_waits_for_the_answer_to_k_minus_window() -> None:
    """At most W numbers are under way, counted from the lowest without an answer."""
    world = World(ONE_SESSION)
    world.submit(b"first")
    world.run(100)
    world.cluster.is_ordering = False
    for i in range(2 * WINDOW):
        world.submit(bytes([i]))
    world.exchange()
    assert len(world.cluster.admitted) == WINDOW

    replica = world.cluster.replica("r0")
    world.cluster.order()
    first, *others = replica.outbox
    replica.outbox.clear()
    replica.outbox.extend(others)  # The answer to the lowest is lost; the others arrive.
    world.exchange()
    assert not world.cluster.admitted, "a number beyond the window of an unanswered one was sent"

    world.cluster.is_ordering = True
    replica.outbox.append(first)
    world.run(1000)
    assert len(world.outcomes) == 2 * WINDOW + 1


def test_a_lost_reply_is_fetched_by_the_same_number() -> None:
    """The primary dies after executing: the next one replays the receipt, nothing runs twice."""
    world = World(ONE_SESSION)
    world.submit(b"warm")
    world.run(100)
    world.cluster.is_ordering = False
    token = world.submit(b"once")
    world.exchange()
    world.kill("r0")
    world.cluster.lead(1, keep_admitted=True)
    world.cluster.is_ordering = True
    world.run(2000)

    assert world.success(token).reply.replayed
    assert world.cluster.executed == [b"warm", b"once"]


def test_a_refusal_of_the_only_transmission_is_definite() -> None:
    """BAD_REQUEST before anything else was sent: NOT_APPLIED, and the number is used up by an empty request."""
    world = World(ONE_SESSION)
    world.submit(b"warm")
    world.run(100)
    world.cluster.replica("r0").refuse_with = RejectCode.BAD_REQUEST
    token = world.submit(b"bad")
    world.exchange()
    failure = world.failure(token)
    assert (failure.kind, failure.reason) == (OutcomeKind.NOT_APPLIED, "bad_request")

    world.cluster.replica("r0").refuse_with = None
    after = world.submit(b"good")
    world.run(2000)
    assert world.success(after).reply.number == 3
    assert world.cluster.executed == [b"warm", b"good"]
    assert [request.code for request in requests_at(world, "r0") if request.number == 2][-1] == CODE_EMPTY


def test_a_refusal_after_a_lost_transmission_is_not_definite() -> None:
    """The first transmission may have been executed: only the deadline ends it, as UNKNOWN."""
    world = World(ONE_SESSION)
    world.submit(b"warm")
    world.run(100)
    world.cluster.is_ordering = False
    token = world.submit(b"maybe", for_ms=3000)
    world.exchange()
    world.kill("r0")
    world.cluster.lead(1)
    for replica in world.cluster.replicas:
        replica.refuse_with = RejectCode.BAD_REQUEST
    world.run(2000)
    assert token not in world.outcomes
    world.run(2000)
    failure = world.failure(token)
    assert (failure.kind, failure.reason) == (OutcomeKind.UNKNOWN, "deadline")


def test_a_refusal_after_an_unanswered_transmission_is_not_definite() -> None:
    """The silent primary executes it later; that the next one refuses it settles nothing."""
    world = World(ONE_SESSION)
    world.submit(b"warm")
    world.run(100)
    world.cluster.is_ordering = False
    token = world.submit(b"maybe", for_ms=3000)
    world.exchange()
    world.cluster.replica("r0").is_silent = True
    world.cluster.order()
    world.cluster.lead(1)
    world.cluster.replica("r1").refuse_with = RejectCode.BAD_REQUEST
    world.run(1000)
    assert token not in world.outcomes
    world.cluster.replica("r1").refuse_with = None
    world.run(2000)
    assert world.success(token).reply.replayed
    assert world.cluster.executed == [b"warm", b"maybe"]


def test_a_refusal_of_a_repetition_is_not_definite() -> None:
    """Sent twice, refused once: which of the two was it?"""
    world = World(ONE_SESSION)
    world.submit(b"warm")
    world.run(100)
    world.cluster.is_ordering = False
    token = world.submit(b"maybe", for_ms=3000)
    world.exchange()
    world.cluster.replica("r0").refuse_with = RejectCode.BAD_REQUEST
    world.run(1000)
    assert len([request for request in requests_at(world, "r0") if request.number == 2]) > 1
    assert token not in world.outcomes
    world.cluster.order()
    world.exchange()
    world.success(token)


def test_a_refusal_before_redirection_does_not_spoil_certainty() -> None:
    """NOT_PRIMARY to the only transmission leaves the number as new: the next refusal is definite."""
    world = World(ONE_SESSION)
    world.submit(b"warm")
    world.run(100)
    world.cluster.lead(1)
    world.cluster.replica("r1").refuse_with = RejectCode.BAD_REQUEST
    token = world.submit(b"bad")
    world.run(500)
    failure = world.failure(token)
    assert (failure.kind, failure.reason) == (OutcomeKind.NOT_APPLIED, "bad_request")


def test_after_an_unknown_outcome_the_session_goes_on() -> None:
    """The number of a request past its deadline is used up, by its body or empty; the next is not blocked."""
    world = World(ONE_SESSION)
    world.submit(b"warm")
    world.run(100)
    world.cluster.is_ordering = False
    lost = world.submit(b"maybe", for_ms=400)
    world.exchange()
    world.run(500)
    assert world.failure(lost).kind is OutcomeKind.UNKNOWN

    world.cluster.admitted.clear()  # It never gets into the log.
    world.cluster.is_ordering = True
    after = world.submit(b"after")
    world.run(5000)
    assert world.success(after).reply.number == 3
    assert world.cluster.executed == [b"warm", b"after"]


def test_an_unknown_outcome_stays_unknown_when_the_body_was_executed_after_all() -> None:
    """The empty request that fills a number may find it taken by the original body."""
    world = World(ONE_SESSION)
    world.submit(b"warm")
    world.run(100)
    world.cluster.is_ordering = False
    lost = world.submit(b"maybe", for_ms=400)
    world.exchange()
    world.run(450)
    world.cluster.is_ordering = True
    world.cluster.order()
    world.run(3000)
    assert world.failure(lost).kind is OutcomeKind.UNKNOWN
    assert world.cluster.executed == [b"warm", b"maybe"]
    assert not world.client.has_work


def test_never_sent_before_the_deadline_is_not_sent() -> None:
    """No replica to be found: certainly no effect."""
    world = World()
    for replica in world.cluster.replicas:
        replica.is_alive = False
    token = world.submit(for_ms=700)
    world.run(1000)
    failure = world.failure(token)
    assert (failure.kind, failure.reason) == (OutcomeKind.NOT_SENT, "deadline")
    assert "refused" in failure.text
    assert world.completed_ms[token] == 700


def test_busy_is_retried_when_the_primary_says() -> None:
    """BUSY with time left: the same number again after retry_ms."""
    world = World(ONE_SESSION)
    world.submit(b"warm")
    world.run(100)
    replica = world.cluster.replica("r0")
    replica.refuse_with, replica.retry_ms = RejectCode.BUSY, 200
    token = world.submit(b"later")
    world.run(150)
    assert len([r for r in requests_at(world, "r0") if r.number == 2]) == 1, "asked again before the time"
    replica.refuse_with = None
    world.run(400)
    assert world.success(token).reply.number == 2


def test_busy_past_the_deadline_fails_at_once_as_not_applied() -> None:
    """There is no point in waiting for a retry that comes too late."""
    world = World(ONE_SESSION)
    world.submit(b"warm")
    world.run(100)
    replica = world.cluster.replica("r0")
    replica.refuse_with, replica.retry_ms = RejectCode.BUSY, 2000
    token = world.submit(b"late", for_ms=1000)
    world.exchange()
    failure = world.failure(token)
    assert (failure.kind, failure.reason, failure.retry_ms) == (OutcomeKind.NOT_APPLIED, "busy", 2000)


def test_a_full_disk_is_a_definite_refusal_with_its_name() -> None:
    """DISK_FULL at the only transmission: not applied; whatever waits for a number is refused with it."""
    world = World(ONE_SESSION)
    warm = world.submit()
    world.run(100, until=lambda: warm in world.outcomes)
    primary = world.cluster.replica("r0")
    primary.refuse_with = RejectCode.DISK_FULL
    tokens = [world.submit(b"%d" % number) for number in range(2 * WINDOW)]  # More than one session has numbers for.
    world.run(100)
    for token in tokens:
        failure = world.failure(token)
        assert (failure.kind, failure.reason) == (OutcomeKind.NOT_APPLIED, "disk_full")

    primary.refuse_with = None
    later = world.submit(b"later")
    world.run(1000, until=lambda: later in world.outcomes)
    assert world.success(later).reply.result == b"did later"
    assert world.cluster.executed == [b"x", b"later"]


@pytest.mark.parametrize("for_ms", [5, 300, 10_000])
def test_a_session_that_a_full_disk_keeps_from_opening_refuses_by_that_name(for_ms: int) -> None:
    """Whoever waits for the session hears why, at the deadline or sooner; never a bare timeout."""
    world = World()
    world.cluster.replica("r0").refuse_with = RejectCode.DISK_FULL
    first = world.submit()
    world.run(400, until=lambda: first in world.outcomes)
    later = world.submit(for_ms=for_ms)
    world.run(for_ms, until=lambda: later in world.outcomes)
    for token in (first, later):
        failure = world.failure(token)
        assert (failure.kind, failure.reason) == (OutcomeKind.NOT_APPLIED, "disk_full")
        assert "disk of replica 0, the primary is full" in failure.text

    world.cluster.replica("r0").refuse_with = None
    last = world.submit(b"last")
    world.run(1000, until=lambda: last in world.outcomes)
    assert world.success(last).reply.result == b"did last"


def test_too_large_is_found_here() -> None:
    """A body over the cluster's limit never leaves: neither before nor after the limit is known."""
    world = World()
    early = world.submit(bytes(1001))
    world.run(100)
    late = world.submit(bytes(1001))
    fits = world.submit(bytes(1000))
    world.run(100)
    for token in (early, late):
        failure = world.failure(token)
        assert (failure.kind, failure.reason) == (OutcomeKind.NOT_APPLIED, "too_large")
    world.success(fits)
    assert all(len(request.body) <= 1000 for request in requests_at(world, "r0"))


def test_a_full_queue_refuses() -> None:
    """More than queue_max without an outcome: NOT_SENT at once."""
    world = World(ClientOptions(queue_max=3))
    tokens = [world.submit() for _ in range(4)]
    assert world.failure(tokens[3]).reason == "queue_full"
    world.run(100)
    for token in tokens[:3]:
        world.success(token)


@pytest.mark.parametrize(("when", "kind"), [("queued", OutcomeKind.NOT_SENT), ("sent", OutcomeKind.UNKNOWN)])
def test_a_cancelled_request_says_what_is_certain(when: str, kind: OutcomeKind) -> None:
    """Cancelling completes the token now; the number goes on empty."""
    world = World(ONE_SESSION)
    world.submit(b"warm")
    world.run(100)
    world.cluster.is_ordering = False
    if when == "queued":
        for i in range(WINDOW):
            world.submit(bytes([i]))
    token = world.submit(b"cancelled")
    world.exchange()
    world.step(Cancel(token))
    assert world.failure(token).kind is kind
    world.step(Cancel(token))

    world.cluster.is_ordering = True
    world.cluster.order()
    world.run(2000)
    assert not world.client.has_work


def test_an_evicted_session_is_lost_and_a_new_client_id_registers() -> None:
    """NO_SESSION: refused at its only transmission means not applied; a repeated one is unknown."""
    world = World(ONE_SESSION)
    world.submit(b"warm")
    world.run(100)
    world.cluster.is_ordering = False
    repeated = world.submit(b"repeated")
    world.exchange()
    world.cut("r0")
    world.cluster.admitted.clear()
    world.cluster.sessions.clear()
    world.cluster.is_ordering = True
    once = world.submit(b"once")
    world.run(100)

    unknown, refused = world.failure(repeated), world.failure(once)
    assert (unknown.kind, unknown.reason) == (OutcomeKind.UNKNOWN, "session_lost")
    if refused.reason == "no_session":
        assert refused.kind is OutcomeKind.NOT_APPLIED
    after = world.submit(b"after")
    world.run(1000)
    assert world.success(after).reply.number == 1
    assert world.cluster.executed == [b"warm", b"after"]
    clients = {request.client for request in requests_at(world, "r0")}
    assert len(clients) == 2


def test_queued_requests_survive_the_loss_of_their_session() -> None:
    """What never got a number goes into the next session, in order."""
    world = World(ONE_SESSION)
    world.submit(b"warm", lane=5)
    world.run(100)
    world.cluster.sessions.clear()
    sent = [world.submit(bytes([i]), lane=5) for i in range(WINDOW)]
    queued = [world.submit(bytes([100 + i]), lane=5) for i in range(3)]
    world.run(1000)
    for token in sent:
        failure = world.failure(token)
        assert (failure.kind, failure.reason) == (OutcomeKind.NOT_APPLIED, "no_session")
    for token in queued:
        world.success(token)
    assert world.cluster.executed == [b"warm", bytes([100]), bytes([101]), bytes([102])]


def test_the_pool_grows_with_the_load_up_to_its_bound() -> None:
    """One request needs one session; many open more, never above sessions_max."""
    world = World(ClientOptions(sessions_max=4))
    world.submit()
    world.run(100)
    assert len(world.cluster.sessions) == 1
    tokens = [world.submit(b"%d" % i) for i in range(200)]
    world.run(1000)
    assert len(world.cluster.sessions) == 4
    assert sorted(world.cluster.executed) == sorted([b"x", *[b"%d" % i for i in range(200)]])
    for token in tokens:
        world.success(token)


def test_a_lane_keeps_its_order_among_many_sessions() -> None:
    """Requests of one lane are executed as submitted, whatever else goes on."""
    world = World(ClientOptions(sessions_max=4))
    for i in range(60):
        world.submit(b"%d:%03d" % (i % 3, i), lane=i % 3)
        world.submit(b"other")
    world.run(1000)
    for lane in range(3):
        mine = [body for body in world.cluster.executed if body.startswith(b"%d:" % lane)]
        assert len(mine) == 20
        assert mine == sorted(mine)


def test_misuse_is_refused() -> None:
    """Time that runs back, a token used twice, an identity of the wrong size, no address."""
    world = World()
    world.now_ms = 10
    world.step(Submit(7, 2, b"", 1000), Disconnected("nowhere"))
    with pytest.raises(LocalProtocolError, match="time ran back"):
        world.client.step(9, [])
    with pytest.raises(LocalProtocolError, match="token 7"):
        world.client.step(10, [Submit(7, 2, b"", 1000)])
    with pytest.raises(ConfigError, match="identity"):
        ClusterClient(["r0"], b"short")
    with pytest.raises(ConfigError, match="at least one"):
        ClusterClient([], bytes(16))
    with pytest.raises(ConfigError, match="poll_ms"):
        ClientOptions(poll_ms=200)
