"""Receipts against orders: what a caller was told is about what it asked, and stands where it was told."""

from __future__ import annotations

from sim.oracles.facts import Facts, violate
from sim.workload import History, Operation
from trio_pb.app.machine import RejectedError
from trio_pb.app.order_messages import decode_place, decode_receipt
from trio_pb.core.client_ports import Success

__all__ = ["check_receipts"]


def check_receipts(facts: Facts, history: History) -> None:
    """Compare every answered order with its receipt, and both with the log.

    Raises:
        Violation: receipts; a caller got somebody else's answer, or one for an op without its order.
    """
    for operation in history.operations:
        if not operation.is_read and isinstance(operation.outcome, Success):
            _check(facts, operation, operation.outcome)


def _check(facts: Facts, operation: Operation, outcome: Success) -> None:
    reply = outcome.reply
    prepare = facts.prepares[facts.committed[reply.op]]
    if operation.body not in [request.body for request in prepare.requests()]:
        violate("receipts", f"{operation.client}: token {operation.token} is not in op {reply.op}, as its receipt says")
    order = decode_place(operation.body)
    try:
        placed = decode_receipt(reply.result)
    except RejectedError:
        return
    told = placed.customer_id, placed.order_number, placed.laptop_type
    if told != (order.customer_id, order.order_number, order.laptop_type):
        violate("receipts", f"{operation.client}: ordered {order}, and was told {told}")
