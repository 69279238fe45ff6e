"""Linearizability by its definition, slowly, and all small histories there are.

Nothing here knows of the checker: registers are a dictionary, and the orders are the shipped machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, TypeAlias

from sim.linearizability import UNKNOWN, Call
from trio_pb.app.machine import RejectedError
from trio_pb.app.orders import (
    PLACE,
    READ,
    SCAN,
    Orders,
    PlaceOrder,
    ReadCustomer,
    ScanCustomers,
    decode_receipt,
    decode_record,
    decode_scan_page,
    encode_place,
    encode_read,
    encode_scan,
)

__all__ = ["Letter", "Run", "answer_of_orders", "answer_of_register", "histories", "intervals", "is_explained"]

Letter: TypeAlias = tuple[Any, Any]  # What is asked, and what is answered.
Run: TypeAlias = Callable[[tuple[Any, ...]], Any]  # Everything asked so far -> the answer to the last.


def is_explained(calls: Sequence[Call], run: Run) -> bool:
    """Whether some order of all answered calls, and of any others, respects time and gives the answers."""

    def extend(left: tuple[Call, ...], asked: tuple[Any, ...]) -> bool:
        if all(call.end is None for call in left):
            return True
        for i, call in enumerate(left):
            rest = left[:i] + left[i + 1 :]
            if any(other.end is not None and other.end < call.begin for other in rest):
                continue
            now = (*asked, call.input)
            if (call.end is None or run(now) == call.output) and extend(rest, now):
                return True
        return False

    return extend(tuple(calls), ())


@cache
def answer_of_register(asked: tuple[Any, ...]) -> Any:
    """Run registers."""
    values: dict[Any, Any] = {}
    answer: Any = None
    for kind, name, *arguments in asked:
        answer = None
        if kind == "read":
            answer = values.get(name)
        elif kind == "write":
            (values[name],) = arguments
        else:
            old, new = arguments
            answer = values.get(name) == old
            if answer:
                values[name] = new
    return answer


@cache
def answer_of_orders(asked: tuple[Any, ...]) -> Any:
    """Run the shipped state machine."""
    machine = Orders(recent_orders_max=100)
    answer: Any = None
    for op, (kind, *fields) in enumerate(asked, 1):
        if kind == "place":
            customer, number, laptop, overwrite, key = fields
            body = encode_place(PlaceOrder(customer, number, laptop, overwrite, key and bytes.fromhex(key)))
            (result,) = machine.apply(op, op * 1000, [(0, bytes(16), PLACE, body)])
            try:
                answer = ("duplicate",) if decode_receipt(result).duplicate else ("placed",)
            except RejectedError as rejection:
                answer = ("rejected", rejection.name)
        elif kind == "read":
            ((_, result, _, _),) = machine.query(op, 0, [(0, 0, READ, encode_read(ReadCustomer(fields[0])), b"")])
            record = decode_record(result)
            answer = (record.last_order, record.orders, record.laptop_type)
        else:
            body = encode_scan(ScanCustomers(fields[0], 100))
            ((_, result, _, _),) = machine.query(op, 0, [(0, 0, SCAN, body, b"")])
            page = decode_scan_page(result)
            answer = (tuple((r.customer_id, r.last_order, r.orders, r.laptop_type) for r in page.records), None)
    return answer


def intervals(count: int) -> list[tuple[tuple[int, int], ...]]:
    """All ways in which `count` calls can overlap or follow each other, one of each kind (Fishburn numbers)."""
    found: dict[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]] = {}
    for times in _matchings(tuple(range(2 * count))):
        # Where no end stands between two beginnings, or no beginning between two ends, their order says nothing.
        begins, ends = {begin for begin, _ in times}, {end for _, end in times}
        kind = tuple(sorted((sum(t < b for t in ends), sum(t > e for t in begins)) for b, e in times))
        found.setdefault(kind, times)
    return list(found.values())


def _matchings(moments: tuple[int, ...]) -> Iterator[tuple[tuple[int, int], ...]]:
    if not moments:
        yield ()
        return
    begin, *rest = moments
    for i, end in enumerate(rest):
        for others in _matchings(tuple(rest[:i] + rest[i + 1 :])):
            yield ((begin, end), *others)


def histories(count: int, alphabet: Sequence[Letter]) -> Iterator[list[Call]]:
    """All histories of `count` calls whose questions and answers are letters."""
    for times in intervals(count):
        for word in itertools.product(alphabet, repeat=count):
            yield history(times, word)


def history(times: Sequence[tuple[int, int]], word: Sequence[Letter]) -> list[Call]:
    """One history."""
    return [
        Call(process=f"P{i}", begin=begin, end=None if answered is UNKNOWN else end, input=asked, output=answered)
        for i, ((begin, end), (asked, answered)) in enumerate(zip(times, word, strict=True))
    ]
