"""Each judge finds what was planted, says where it is, and finds nothing in a sound cluster."""

from __future__ import annotations

import attrs

from sim.linearizability import UNKNOWN, Call
from sim.linearizability.models.orders import DUPLICATE, PLACED
from trio_pb.app.order_messages import CustomerRecord, RecentOrder
from trio_pb.core.messages import Status, StatusReport
from trio_pb.driver.order_client import PlacedOrder
from trio_pb.testbed.torture import judge
from trio_pb.testbed.torture.custody import Stopped
from trio_pb.testbed.torture.deck import Kind, uses_needed
from trio_pb.testbed.torture.judge import Held, Verdict
from trio_pb.testbed.torture.nemesis import Action, Calm
from trio_pb.testbed.torture.recording import Attempt, Dated, Order, Orders, calls_of


def receipt(customer: int, number: int, op: int, *, duplicate: bool = False) -> PlacedOrder:
    """What a customer was told."""
    return PlacedOrder(
        customer_id=customer,
        order_number=number,
        laptop_type="xps-15",
        engineer_id=2,
        admin_id=0,
        op=op,
        view=3,
        timestamp=1000 * op,
        replayed=False,
        duplicate=duplicate,
    )


def asked() -> Orders:
    """Three orders acknowledged, one rejected, one that nobody knows of."""
    orders: Orders = {}
    for customer, number, op in ((1, 1, 10), (1, 2, 12), (2, 1, 11)):
        order = Order(customer, number, "xps-15", receipt(customer, number, op))
        order.dated.append(Dated(op, 1000 * op, -5))
        orders[customer, number] = order
    orders[2, 2] = Order(2, 2, "xps-15", refused="order_number_not_above_last")
    orders[2, 3] = Order(2, 3, "xps-15", is_unknown=True)
    return orders


RECENT = (
    RecentOrder(10, 0, 1, 1, "xps-15"),
    RecentOrder(11, 0, 2, 1, "xps-15"),
    RecentOrder(12, 0, 1, 2, "xps-15"),
)
RECORDS = (CustomerRecord(1, 2, 2, "xps-15", 12, 12_000), CustomerRecord(2, 1, 1, "xps-15", 11, 11_000))
SOUND = Held(replica=0, records=RECORDS, recent=RECENT, orders=3)


def assert_broken(verdict: Verdict, *words: str) -> None:
    """It does not hold, and says so with these words."""
    assert not verdict.holds
    for word in words:
        assert word in verdict.complaints[0], verdict.complaints


def test_a_sound_cluster() -> None:
    """Nothing is found, wherever the judges look."""
    for verdict in (
        judge.judge_losses(asked(), [SOUND], 1),
        judge.judge_duplicates(asked(), [SOUND], 1),
        judge.judge_receipts(asked(), [SOUND], 1),
    ):
        assert verdict.holds, verdict


def test_an_unknown_order_may_be_there_or_not() -> None:
    """Its customer was told nothing."""
    there = attrs.evolve(
        SOUND,
        recent=(*RECENT, RecentOrder(13, 0, 2, 3, "xps-15")),
        records=(RECORDS[0], CustomerRecord(2, 3, 2, "xps-15", 13, 13_000)),
        orders=4,
    )
    assert judge.judge_losses(asked(), [there], 1).holds
    assert judge.judge_duplicates(asked(), [there], 1).holds
    assert judge.judge_receipts(asked(), [there], 1).holds


def test_a_replica_that_was_not_asked_is_no_witness() -> None:
    """Whoever does not answer has not shown that it has anything."""
    for judge_held in (judge.judge_losses, judge.judge_duplicates, judge.judge_receipts):
        assert_broken(judge_held(asked(), [SOUND], 2), "replica 1 could not be asked")


# --- Lost -----------------------------------------------------------------------------------------


def test_a_lost_order_is_named() -> None:
    """Which, whose, on which replica."""
    lost = attrs.evolve(SOUND, replica=2, recent=RECENT[:2], orders=2)
    assert_broken(judge.judge_losses(asked(), [SOUND, lost], 1), "replica 2", "order 2 of customer 1", "op 12")


def test_an_order_that_left_the_list_is_still_counted() -> None:
    """By the record of its customer."""
    rolled = attrs.evolve(SOUND, recent=RECENT[1:], orders=3)
    assert judge.judge_losses(asked(), [rolled], 1).holds
    short = attrs.evolve(rolled, records=(CustomerRecord(1, 2, 1, "xps-15", 12, 12_000), RECORDS[1]))
    assert_broken(
        judge.judge_losses(asked(), [short], 1), "replica 0 counts 1 orders of customer 1", "2 were acknowledged"
    )


# --- Duplicated -----------------------------------------------------------------------------------


def test_an_order_that_is_there_twice() -> None:
    """In the list of orders."""
    twice = attrs.evolve(SOUND, recent=(*RECENT, RecentOrder(14, 0, 1, 2, "xps-15")), orders=4)
    assert_broken(judge.judge_duplicates(asked(), [twice], 1), "replica 0 has order 2 of customer 1 2 times")


def test_an_order_that_nobody_placed() -> None:
    """Or that was rejected, and never had an unknown outcome."""
    invented = attrs.evolve(SOUND, recent=(*RECENT, RecentOrder(14, 0, 9, 7, "xps-15")), orders=4)
    assert_broken(judge.judge_duplicates(asked(), [invented], 1), "order 7 of customer 9", "nobody")
    rejected = attrs.evolve(SOUND, recent=(*RECENT, RecentOrder(14, 0, 2, 2, "xps-15")), orders=4)
    assert_broken(judge.judge_duplicates(asked(), [rejected], 1), "order 2 of customer 2", "rejected")


def test_an_order_counted_twice() -> None:
    """By the record of its customer, where the list does not reach back."""
    counted = attrs.evolve(SOUND, records=(CustomerRecord(1, 2, 3, "xps-15", 12, 12_000), RECORDS[1]), orders=4)
    assert_broken(judge.judge_duplicates(asked(), [counted], 1), "counts 3 orders of customer 1", "at most 2")


def test_counts_that_do_not_add_up() -> None:
    """Customers and list tell of different numbers."""
    assert_broken(
        judge.judge_duplicates(asked(), [attrs.evolve(SOUND, orders=5)], 1), "3 orders by customer, and 5 in all"
    )


# --- Receipts -------------------------------------------------------------------------------------


def test_an_order_that_stands_elsewhere_than_its_receipt_says() -> None:
    """Op by op."""
    moved = attrs.evolve(SOUND, recent=(attrs.evolve(RECENT[0], op=9), *RECENT[1:]))
    assert_broken(judge.judge_receipts(asked(), [moved], 1), "order 1 of customer 1 at op 9", "receipt said 10")


def test_another_laptop_than_was_ordered() -> None:
    """Laptop by laptop."""
    other = attrs.evolve(SOUND, recent=(attrs.evolve(RECENT[0], laptop_type="abacus"), *RECENT[1:]))
    assert_broken(judge.judge_receipts(asked(), [other], 1), "order 1 of customer 1 as 'abacus'")


def test_a_customer_whose_last_order_is_not_his_last() -> None:
    """By his record."""
    stale = attrs.evolve(SOUND, records=(CustomerRecord(1, 1, 2, "xps-15", 10, 10_000), RECORDS[1]))
    assert_broken(judge.judge_receipts(asked(), [stale], 1), "customer 1", "op 12", "record says 1 at op 10")


def test_times_that_run_back() -> None:
    """A later op that is not dated later."""
    orders = asked()
    orders[1, 2].dated[0] = Dated(12, 11_000, -5)
    assert_broken(judge.judge_receipts(orders, [SOUND], 1), "op 12 is not dated after op 11")


def test_a_time_that_one_wild_clock_dragged_away() -> None:
    """An order that is dated a year ahead."""
    orders = asked()
    orders[1, 2].dated[0] = Dated(12, 12_000, 365 * 86400 * 10**9)
    assert_broken(judge.judge_receipts(orders, [SOUND], 1), "order 2 of customer 1, op 12", "31536000 s ahead")


# --- The history ----------------------------------------------------------------------------------


def call(begin: int, end: int | None, asked_: tuple[object, ...], output: object) -> Call:
    """One call."""
    return Call(process="c", begin=begin, end=end, input=asked_, output=output)


def test_a_history_that_no_order_explains() -> None:
    """An order acknowledged before a read that does not see it."""
    place = call(0, 1, ("place", 7, 1, "xps-15", False, "k"), PLACED)
    good = judge.judge_history([place, call(2, 3, ("read", 7), (1, 1, "xps-15"))])
    assert good.holds
    assert "2 calls on 1 customers" in good.what
    assert_broken(judge.judge_history([place, call(2, 3, ("read", 7), (-1, 0, ""))]), "customer 7", "contradict")


def attempt(begin: int, end: int, output: object, **more: object) -> Attempt:
    """An attempt at the same order, or what came of it."""
    base = Attempt(process="c", begin=begin, end=end, input=("place", 7, 1, "xps-15", False, "k"), output=output)
    return attrs.evolve(base, **more)  # type: ignore[arg-type] # Its own fields.


def test_what_callers_saw_becomes_a_history() -> None:
    """Nobody knows when an unknown outcome takes effect; what had none says nothing; ops are hints."""
    calls = calls_of(
        [
            attempt(0, 5, UNKNOWN, told="deadline"),
            attempt(6, 7, UNKNOWN, told="busy", has_effect=False),
            attempt(8, 9, DUPLICATE),
            attempt(1, 2, PLACED, op=12, timestamp=5),
            attempt(1, 2, PLACED, op=11, timestamp=4),
        ],
        began_ns=0,
    )
    assert [(it.begin, it.end, it.hint) for it in calls] == [(0, None, None), (8, 9, None), (1, 2, 1), (1, 2, 0)]


# --- The cluster ----------------------------------------------------------------------------------


def status(replica: int, op: int, digest: bytes, **counters: int) -> StatusReport:
    """Where a replica stands."""
    return StatusReport(
        replica=replica,
        status=Status.NORMAL,
        is_primary=replica == 0,
        view=3,
        log_view=3,
        head=op,
        commit=op,
        applied=op,
        state_op=op,
        state_digest=digest,
        peers=(),
        counters=tuple(sorted(counters.items())),
    )


def test_states_that_differ() -> None:
    """In digest or op; or that differed once."""
    same = {replica: status(replica, 9, b"a" * 32) for replica in range(3)}
    assert judge.judge_states(same, 3).holds
    assert_broken(judge.judge_states({**same, 1: status(1, 9, b"b" * 32)}, 3), "replica 0 is at op 9 with 6161")
    assert_broken(judge.judge_states({0: same[0], 2: same[2]}, 3), "only replicas 0, 2 answered")
    assert_broken(judge.judge_states({**same, 1: status(1, 9, b"a" * 32, diverged=1)}, 3), "replica 1 has diverged")


def test_a_cluster_that_does_not_recover() -> None:
    """Which round, and what was the matter."""
    well = Calm(round=1, begin=5.0, progress=0.1, whole=0.4)
    assert judge.judge_progress([well]).holds
    stuck = Calm(round=2, begin=9.0, progress=None, whole=None, told="replica 1 is unborn")
    assert_broken(judge.judge_progress([well, stuck]), "round 2", "9.0 s", "no order")
    damaged = attrs.evolve(stuck, progress=0.1)
    assert_broken(judge.judge_progress([damaged]), "round 2", "replica 1 is unborn")


def test_a_replica_that_stops_by_itself() -> None:
    """Or hangs, or says what it should not."""
    assert judge.judge_processes([], []).holds
    assert_broken(judge.judge_processes([Stopped(1, 3.5, -6, "Fatal: oh")], []), "replica 1", "-6", "3.5 s", "oh")
    assert_broken(judge.judge_processes([Stopped(1, 3.5, None, "")], []), "replica 1 hung")
    assert_broken(judge.judge_processes([], ["replica 2 said: Traceback"]), "replica 2 said")


def test_faults_that_were_used_too_seldom() -> None:
    """Five times each in ten minutes; what found nothing to harm does not count."""
    actions = [
        Action(kind=kind, begin=0, end=1, target="", what="x", round=1, is_done=True) for kind in Kind for _ in range(5)
    ]
    assert judge.judge_faults(actions, uses_needed(600)).holds
    actions[0].is_done = False
    assert_broken(judge.judge_faults(actions, uses_needed(600)), "delay: 4 times, not 5")
    assert judge.judge_faults(actions, uses_needed(599)).holds
    assert uses_needed(1) == 1


def test_long_lists_of_complaints_are_cut() -> None:
    """Ten tell enough."""
    orders = {(1, number): Order(1, number, "x", receipt(1, number, number)) for number in range(30)}
    verdict = judge.judge_losses(orders, [attrs.evolve(SOUND, recent=(), records=(), orders=0)], 1)
    assert len(verdict.complaints) == judge.TOLD_MAX + 1
    assert verdict.complaints[-1] == "and 21 more"
