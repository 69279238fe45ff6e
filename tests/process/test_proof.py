"""The judge of the demo finds each way in which a replica could have failed."""

from __future__ import annotations

from trio_pb.app.orders import CustomerRecord, RecentOrder
from trio_pb.testbed.proof import Placed, ReplicaProof, judge

PLACED: Placed = {(0, 0): 5, (0, 1): 6, (1, 0): 5, (1, 1): 7}


def record(customer: int, last_order: int, orders: int) -> CustomerRecord:
    """A customer's record; the rest of it does not matter here."""
    return CustomerRecord(customer, last_order, orders, "laptop", 7, 0)


RECORDS = [record(0, 1, 2), record(1, 1, 2)]
RECENT = [RecentOrder(op, 0, customer, number, "laptop") for (customer, number), op in PLACED.items()]


def judged(records: list[CustomerRecord], recent: list[RecentOrder] | None) -> tuple[int, int, int, int]:
    """Lost, duplicated, last orders wrong, misplaced."""
    proof: ReplicaProof = judge(0, records, recent, PLACED, customers=2, orders=2)
    return proof.lost, proof.duplicated, proof.last_orders_wrong, proof.misplaced


def test_what_was_acknowledged_and_nothing_else() -> None:
    """All well, with and without the list of recent orders."""
    assert judged(RECORDS, RECENT) == (0, 0, 0, 0)
    assert judged(RECORDS, None) == (0, 0, 0, 0)


def test_a_lost_order() -> None:
    """Missing in the list, in the count, or with its whole customer."""
    assert judged(RECORDS, RECENT[1:])[0] == 1
    assert judged([RECORDS[0], record(1, 1, 1)], None) == (1, 0, 0, 0)
    assert judged(RECORDS[:1], None) == (2, 0, 1, 0)


def test_an_order_that_is_there_twice_or_was_never_placed() -> None:
    """Twice in the list, one too many in the count, or of a customer who never ordered."""
    assert judged(RECORDS, [*RECENT, RECENT[0]])[1] == 1
    assert judged(RECORDS, [*RECENT, RecentOrder(9, 0, 8, 0, "laptop")])[1] == 1
    assert judged([RECORDS[0], record(1, 1, 3)], None)[1] == 1
    assert judged([*RECORDS, record(8, 0, 1)], None)[1] == 1


def test_a_wrong_last_order() -> None:
    """As many orders as there should be, but not these."""
    assert judged([RECORDS[0], record(1, 0, 2)], None) == (0, 0, 1, 0)


def test_an_order_at_another_op_than_its_receipt_said() -> None:
    """A receipt names a position; the order must stand there."""
    moved = [RecentOrder(4, 0, 0, 0, "laptop"), *RECENT[1:]]
    assert judged(RECORDS, moved) == (0, 0, 0, 1)


def test_an_order_lost_and_another_twice_do_not_even_out() -> None:
    """The counts agree, the list does not."""
    assert judged(RECORDS, [RECENT[0], RECENT[0], *RECENT[2:]])[:2] == (1, 1)
