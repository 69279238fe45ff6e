"""The oracles on what clients are told, and on who leads with a dead disk, asked with doctored facts."""

from __future__ import annotations

from sim.oracles.client_promises import CheckpointsKeepReplies, RefusalsAreCertain, StrangersAreConfirmed
from sim.oracles.facts import Facts
from sim.oracles.stability import LeadsWithALiveDisk
from tests.sim.oracle_world import (
    CONFIGURATION,
    ONE,
    VIEW,
    World,
    fresh_state,
    image,
    prepare_at,
    prepare_message,
    prepare_ok,
    violates,
)
from trio_pb.core import messages as m
from trio_pb.core.config import Timeouts
from trio_pb.core.durable import Scan
from trio_pb.core.manifest import CoreState, KeptReply, SessionRow
from trio_pb.core.ports import Start, ToClient, WalAppend
from trio_pb.core.prepare import OrderedRequest

PRIMARY = VIEW  # Of three replicas, that of view 1.
CLIENT = bytes(16)
REQUEST = m.Request(CLIENT, 1, 3, 2, b"")
ORDERED = prepare_at(2, ONE, requests=[OrderedRequest(CLIENT, 1, 3, 2, b"")])


def refuse(w: World, code: m.RejectCode) -> None:
    """The primary refuses the request."""
    w.watch.to_client(PRIMARY, ToClient(1, m.Reject(CLIENT, 1, 3, code, None, "", 0)))


def test_no_session_that_nobody_vouched_for() -> None:
    """One of three must have spoken in the view after the request came, beside its primary."""
    w = World(StrangersAreConfirmed)
    w.send(2, prepare_ok(ONE))
    w.watch.from_client(PRIMARY, REQUEST)
    refuse(w, m.RejectCode.NOT_PRIMARY)
    with violates("no session"):
        refuse(w, m.RejectCode.NO_SESSION)
    w.send(2, prepare_ok(ONE))
    refuse(w, m.RejectCode.NO_SESSION)


def test_no_session_by_what_is_committed() -> None:
    """An earlier primary had ordered it: its execution found the session gone, and that is certain."""
    w = World(StrangersAreConfirmed)
    w.watch.from_client(PRIMARY, REQUEST)
    w.facts.register(ORDERED)
    w.commit(PRIMARY, ORDERED)
    refuse(w, m.RejectCode.NO_SESSION)


def test_refusal_of_what_an_older_view_left_over() -> None:
    """Who tells it on has not ordered it, though it came here as well."""
    w = World(RefusalsAreCertain)
    w.watch.from_client(PRIMARY, REQUEST)
    w.send(PRIMARY, prepare_message(ORDERED), view=VIEW + 3)
    refuse(w, m.RejectCode.NOT_PRIMARY)


def test_refusal_of_a_registration_that_says_another_number() -> None:
    """It was ordered as number 0, answered, and comes once more."""
    w = World(RefusalsAreCertain)
    odd = m.Request(CLIENT, 0, 1 << 63, m.CODE_REGISTER, b"")
    w.watch.from_client(PRIMARY, odd)
    ordered = prepare_at(2, ONE, requests=[OrderedRequest(CLIENT, 0, 0, m.CODE_REGISTER, b"")])
    w.send(PRIMARY, prepare_message(ordered))
    w.watch.from_client(PRIMARY, m.Request(CLIENT, 0, 0, m.CODE_REGISTER, b""))
    w.watch.to_client(PRIMARY, ToClient(1, m.Reject(CLIENT, 0, 0, m.RejectCode.NOT_PRIMARY, None, "", 0)))


def test_refusal_of_what_was_ordered() -> None:
    """Of two transmissions one was ordered: the other may be refused, and no more."""
    w = World(RefusalsAreCertain)
    w.watch.from_client(PRIMARY, REQUEST)
    w.send(PRIMARY, prepare_message(ORDERED))
    w.watch.from_client(PRIMARY, REQUEST)
    refuse(w, m.RejectCode.NOT_PRIMARY)
    refuse(w, m.RejectCode.WINDOW)  # It was ordered, and is not executed.
    with violates("refusal"):
        refuse(w, m.RejectCode.NOT_PRIMARY)


def test_refusal_of_what_was_not_ordered() -> None:
    """Each transmission may be refused."""
    w = World(RefusalsAreCertain)
    w.send(PRIMARY, prepare_message(ONE))
    for _ in range(2):
        w.watch.from_client(PRIMARY, REQUEST)
        refuse(w, m.RejectCode.BUSY)


def test_kept_reply_that_a_checkpoint_lacks() -> None:
    """With a window of two, the replies to the last two numbers are there."""
    w = World(lambda facts: CheckpointsKeepReplies(facts, 2))
    for numbers in ((2, 3), (3,)):
        replies = tuple(KeptReply(number, number, 1, b"") for number in numbers)
        row = SessionRow(CLIENT, 1, 3, 3, KeptReply(0, 1, 1, b""), replies)
        checkpoint = CoreState(
            op=3,
            checksum=bytes(16),
            last_timestamp=1,
            release=1,
            configuration=CONFIGURATION,
            probe=bytes(16),
            sessions=(row,),
        )
        start = Start(superblock=image(2), scan=Scan(None, True, ()), checkpoint=checkpoint)
        if len(numbers) == 2:
            w.watch.start(2, start, start.scan)
        else:
            with violates("kept reply"):
                w.watch.start(2, start, start.scan)


def test_dead_disk() -> None:
    """A primary may lead on while appends end, or until it has had the time to look."""
    timeouts = Timeouts()

    def make(facts: Facts) -> LeadsWithALiveDisk:
        return LeadsWithALiveDisk(facts, timeouts)

    def beat(tick: int) -> None:
        state = fresh_state()
        state.now_tick = tick
        w.watch.step(PRIMARY, state)
        w.send(PRIMARY, m.Commit(ONE.checksum, None, 0, m.GENESIS_CHECKPOINT))

    w = World(make)
    w.watch.append(PRIMARY, WalAppend(1, (ONE,), None))
    beat(0)
    w.watch.append_done(PRIMARY, 1)
    w.watch.append(PRIMARY, WalAppend(2, (ORDERED,), None))
    late = timeouts.disk_ticks + timeouts.ping_ticks
    beat(1)
    beat(late)
    beat(1 + late)
    with violates("dead disk"):
        beat(1 + late + 2 * timeouts.ping_ticks)
