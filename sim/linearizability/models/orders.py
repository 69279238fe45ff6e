"""The laptop orders, one partition for each customer (docs/reference/orders.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from sim.linearizability.history import UNKNOWN, Call, HistoryError
from sim.linearizability.model import Model, Part, plain, shape_error
from trio_pb.app.orders import NO_ORDER, RECENT_ORDERS_MAX

__all__ = ["DUPLICATE", "PLACED", "Orders"]

FORMS = '["place", customer, number, laptop, overwrite, key], ["read", customer], ["scan", start]'
PLACED = ("placed",)
DUPLICATE = ("duplicate",)
NOT_ABOVE_LAST = ("rejected", "order_number_not_above_last")
KEY_REUSED = ("rejected", "idempotency_key_reused")

Record: TypeAlias = tuple[int, int, str]  # Last order number, orders placed, laptop of the last.
NO_RECORD: Record = (NO_ORDER, 0, "")


class _Customer(NamedTuple):
    """What the machine knows of one customer."""

    record: Record
    keys: frozenset[tuple[object, int, str]]  # Idempotency key, and the number and laptop that it stands for.
    last_key: object  # That of the last order, which is never forgotten.


class Orders(Model[_Customer]):
    """Inputs and answers.

    ("place", customer, number, laptop, overwrite, key) -> ("placed",), ("duplicate",) or ("rejected", name);
    ("read", customer) -> (last number or -1, orders placed, last laptop or "");
    ("scan", start) -> ((customer, last number, orders placed, last laptop), ...) in the order of customers,
    and the last customer that it got to, None when it got to the end.

    A scan stands for a read of every customer in its range, those without orders too, at one moment of its
    call. Its call ends with its first page: that page fixes the state that the others are of.

    The machine keeps the idempotency keys of the last `recent_orders_max` orders. Which those are depends
    on the orders of all customers; where so many were asked for that a key may have been forgotten, a used
    key may count as a new one. No answer is called wrong for that, and some wrong ones may pass.
    """

    name = "orders"

    def __init__(self, recent_orders_max: int = RECENT_ORDERS_MAX) -> None:
        self._recent_orders_max = recent_orders_max

    def initial(self) -> _Customer:
        """A customer without orders."""
        return _Customer(NO_RECORD, frozenset(), None)

    def step(self, state: _Customer, asked: Any, answered: Any) -> _Customer | None:
        """Place an order or read what was placed."""
        if asked[0] == "read":
            return state if answered is UNKNOWN or answered == state.record else None
        _, _, number, laptop, overwrite, key = asked[:6]
        if key is not None:
            known = next((order for order in state.keys if order[0] == key), None)
            if known is not None:
                if answered == (DUPLICATE if known[1:] == (number, laptop) else KEY_REUSED):
                    return state
                if not _may_be_forgotten(asked) or key == state.last_key:
                    return state if answered is UNKNOWN else None
        last, orders, _ = state.record
        if number <= last and not overwrite:
            return state if answered is UNKNOWN or answered == NOT_ABOVE_LAST else None
        if answered is not UNKNOWN and answered != PLACED:
            return None
        keys = state.keys
        if key is not None:
            keys = frozenset({*(order for order in keys if order[0] != key), (key, number, laptop)})
        return _Customer((number, orders + 1, laptop), keys, key)

    def is_read(self, asked: Any, answered: Any) -> bool:
        """Reads, and orders that were not placed."""
        return asked[0] != "place" or (answered is not UNKNOWN and answered != PLACED)

    def split(self, calls: Sequence[Call]) -> Mapping[Hashable, Sequence[Part]]:
        """Each customer by itself; a scan is a read of each in its range."""
        partitions: dict[Hashable, list[Part]] = {}
        scans: list[int] = []
        asked_keys: Counter[tuple[object, object]] = Counter()
        places = 0
        for index, call in enumerate(calls):
            fields = call.input
            if fields[0] == "scan":
                scans.append(index)
                continue
            part = Part(index, call.begin, call.end, fields, call.output, call.hint)
            partitions.setdefault(fields[1], []).append(part)
            if fields[0] == "place":
                places += 1
                if fields[5] is not None:
                    asked_keys[fields[1], fields[5]] += 1
        if asked_keys:
            self._mark_keys(partitions, asked_keys, forgets=places > self._recent_orders_max)
        self._split_scans(calls, scans, partitions)
        return partitions

    def _mark_keys(
        self,
        partitions: Mapping[Hashable, list[Part]],
        asked_keys: Mapping[tuple[object, object], int],
        forgets: bool,
    ) -> None:
        """Keep the keys that were used more than once, all others say nothing; tell which may be forgotten."""
        for customer, parts in partitions.items():
            for i, part in enumerate(parts):
                fields = part.input
                if fields[0] == "place" and fields[5] is not None:
                    if asked_keys[customer, fields[5]] == 1:
                        parts[i] = part._replace(input=(*fields[:5], None))
                    elif forgets:
                        parts[i] = part._replace(input=(*fields, "may be forgotten"))

    def _split_scans(self, calls: Sequence[Call], scans: Sequence[int], partitions: dict[Hashable, list[Part]]) -> None:
        found: list[tuple[int, Mapping[int, Record], int, int | None]] = []
        for index in scans:
            if calls[index].output is not UNKNOWN:  # A scan that nobody saw end says nothing.
                records, end = calls[index].output
                by_customer: Mapping[int, Record] = {
                    customer: (last, orders, laptop) for customer, last, orders, laptop in records
                }
                found.append((index, by_customer, calls[index].input[1], end))
                for customer in by_customer:
                    partitions.setdefault(customer, [])
        for index, by_customer, start, end in found:
            call = calls[index]
            for key, parts in partitions.items():
                customer = cast("int", key)
                if customer in by_customer or (customer >= start and (end is None or customer <= end)):
                    record = by_customer.get(customer, NO_RECORD)
                    parts.append(Part(index, call.begin, call.end, ("read", customer), record, call.hint))

    def validate(self, asked: Any, answered: Any) -> None:
        """Refuse other inputs, and answers that have no such form."""
        seen = answered is not UNKNOWN
        match asked:
            case ("place", int(), int(), str(), bool(), None | str()):
                is_answer = answered in (PLACED, DUPLICATE) or _is_rejection(answered)
                form = '["placed"], ["duplicate"] or ["rejected", name]'
            case ("read", int()):
                is_answer = _is_record(answered)
                form = "[last order, orders, laptop]"
            case ("scan", int()):
                is_answer = _is_scan(answered)
                form = "[[[customer, last order, orders, laptop], ...], last customer or null]"
            case _:
                raise shape_error(asked, FORMS)
        if seen and not is_answer:
            raise HistoryError(f"output {answered!r}: must be {form}")

    def describe(self, asked: Any, answered: Any) -> str:
        """Say an order or what was read."""
        match asked:
            case ("place", _, int(number), laptop, overwrite, key, *_):
                words = f"place #{number} {laptop!r}{' overwriting' if overwrite else ''}"
                words += f" with key {key}" if key is not None else ""
                return words if answered is UNKNOWN else f"{words} -> {plain(answered)}"
            case ("read", _) if _is_record(answered):
                return f"read -> {_describe_record(cast('Record', answered))}"
            case _:
                return super().describe(asked, answered)

    def describe_state(self, state: _Customer) -> str:
        """Say what was placed."""
        return f"({_describe_record(state.record)})"

    def describe_key(self, key: Hashable) -> str:
        """Say which customer."""
        return f"customer {plain(key)}"


def _may_be_forgotten(fields: tuple[object, ...]) -> bool:
    return len(fields) > 6


def _describe_record(record: Record) -> str:
    last, orders, laptop = record
    return f"#{last} {laptop!r}, {orders} placed" if orders else "no orders"


def _is_rejection(answered: Any) -> bool:
    match answered:
        case ("rejected", str()):
            return True
        case _:
            return False


def _is_record(answered: Any) -> bool:
    match answered:
        case (int(), int(), str()):
            return True
        case _:
            return False


def _is_scan(answered: Any) -> bool:
    match answered:
        case (records, None | int()) if isinstance(records, tuple):
            return all(map(_is_scan_record, cast("tuple[object, ...]", records)))
        case _:
            return False


def _is_scan_record(record: object) -> bool:
    match record:
        case (int(), int(), int(), str()):
            return True
        case _:
            return False
