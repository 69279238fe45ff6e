"""The clients' history, judged by nothing but what the clients saw (INV-22).

`op_order` is quicker, but takes the cluster's word for the op of each answer. Here ops and timestamps in
answers are not looked at: there must be one order of all calls that respects time and explains every answer.
What the cluster says of the order is where the search begins, so that a good run takes no search at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sim.linearizability import UNKNOWN, Call, Verdict, check
from sim.linearizability.models.orders import DUPLICATE, PLACED, Orders
from sim.oracles.facts import violate
from sim.orders import RECENT_ORDERS_MAX
from sim.workload import History, Operation
from trio_pb import canonical
from trio_pb.app.orders import PLACE, READ, SCAN
from trio_pb.core.client_ports import Failure, OutcomeKind, Success

__all__ = ["calls_of", "check_linearizability"]

BUDGET_STEPS = 20_000  # A run takes some hundred.
NS_PER_US = 1000

_MODEL = Orders(RECENT_ORDERS_MAX)


def check_linearizability(history: History) -> bool:
    """Check the history of a run; return False when it could not be decided within the budget.

    Raises:
        Violation: INV-22, with the few calls that contradict each other.
    """
    report = check(_MODEL, calls_of(history), BUDGET_STEPS)
    if report.counterexample is not None:
        violate("INV-22", f"the history of the clients is not linearizable\n{report.counterexample.text}")
    return report.verdict is Verdict.LINEARIZABLE


def calls_of(history: History) -> list[Call]:
    """Return what the clients saw, times in virtual nanoseconds.

    The clock of a run stands still while one thing causes the next: each beginning and end within one
    microsecond gets a nanosecond of its own, so that their order is kept.
    """
    times: dict[tuple[int, bool], int] = {}
    now = 0
    for operation in history.moments:
        is_end = (operation.token, False) in times
        moment = operation.ended if is_end else operation.begun
        assert moment is not None
        now = max(now + 1, moment * NS_PER_US)
        times[operation.token, is_end] = now
    return list(_calls(history.operations, times))


def _hints(operations: list[Operation]) -> dict[int, int]:
    """Number the answered operations by what the cluster says of their order (token -> number)."""
    told: list[tuple[int, bool, int, int]] = []
    for operation in operations:
        if isinstance(operation.outcome, Success):
            reply = operation.outcome.reply
            told.append((reply.op, operation.is_read, reply.timestamp, operation.token))
    return {token: number for number, (_, _, _, token) in enumerate(sorted(told))}


def _calls(operations: list[Operation], times: dict[tuple[int, bool], int]) -> Iterator[Call]:
    hints = _hints(operations)
    pages: dict[int, list[Operation]] = {}
    for operation in operations:
        if operation.scan is not None:
            pages.setdefault(operation.scan, []).append(operation)
    for operation in operations:
        outcome = operation.outcome
        if isinstance(outcome, Failure) and outcome.kind is not OutcomeKind.UNKNOWN:
            continue  # It certainly had no effect.
        if operation.scan is not None:
            continue  # A later page belongs to the call of the first.
        asked = _asked(operation)
        if asked is None:
            continue
        begin = times[operation.token, False]
        if isinstance(outcome, Success):
            answered = _answered(operation, asked, outcome, pages.get(operation.token, []))
            yield Call(
                process=operation.client,
                begin=begin,
                end=times[operation.token, True],
                input=asked,
                output=answered,
                hint=hints[operation.token],
            )
        else:
            yield Call(process=operation.client, begin=begin, end=None, input=asked, output=UNKNOWN)


def _asked(operation: Operation) -> tuple[object, ...] | None:
    fields: Any = canonical.decode(operation.body)  # As our own workload encoded it.
    if operation.code == PLACE and not operation.is_read:
        customer, number, laptop, overwrite, key = fields
        return "place", customer, number, laptop, overwrite, None if key is None else key.hex()
    if operation.code == READ and operation.is_read:
        return "read", fields[0]
    if operation.code == SCAN and operation.is_read:
        return "scan", fields[0]
    return None


def _answered(operation: Operation, asked: tuple[object, ...], outcome: Success, pages: list[Operation]) -> object:
    match canonical.decode(outcome.reply.result):
        case [1, str(name), *_]:
            return "rejected", name
        case [0, [customer, number, laptop, duplicate, _op]] if asked[0] == "place":
            if (customer, number, laptop) == asked[1:4]:
                return DUPLICATE if duplicate else PLACED
            return "placed", customer, number, laptop  # Another order than was asked for, which no model does.
        case [0, [customer, last, orders, laptop, _op, _time]] if asked[0] == "read":
            return (last, orders, laptop) if customer == asked[1] else (customer, last, orders, laptop)
        case [0, [_op, list(records)]]:
            return _scanned(records, outcome, pages)
        case other:
            return "no answer to this", repr(other)


def _scanned(records: list[canonical.Value], outcome: Success, pages: list[Operation]) -> object:
    """Join the pages of a scan as far as they were answered; they come in their order."""
    found: list[Any] = list(records)
    cursor = outcome.reply.cursor
    for page in pages:
        if not isinstance(page.outcome, Success):
            break
        result: Any = canonical.decode(page.outcome.reply.result)  # [0, [op, records]], as that of the first page.
        found += result[1][1]
        cursor = page.outcome.reply.cursor
    return tuple(tuple(record[:4]) for record in found), found[-1][0] if cursor else None
