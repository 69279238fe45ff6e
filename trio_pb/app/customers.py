"""The customers' records: packed bytes by customer id, and the ids in order."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial

from trio_pb.app.buckets import Bucket, Buckets, BucketsPin, RestoringBuckets
from trio_pb.app.chunks import FrozenChunks
from trio_pb.app.leaf import Keys
from trio_pb.app.order_messages import ID_MAX, IDEMPOTENCY_KEY_SIZE_MAX, LAPTOP_TYPE_SIZE_MAX
from trio_pb.app.ordered import OrderedIds, OrderedIdsPin, RestoringIds
from trio_pb.app.parts import MalformedStateError

__all__ = ["RECORD", "Customers", "CustomersPin", "check_tail", "record_fields"]

# A customer's record: last order, orders placed, op and timestamp of the last one, size of the laptop
# type; then the laptop type in UTF-8 and the last order's idempotency key (empty: it had none).
RECORD = struct.Struct(">QQQQB")


def record_fields(customer_id: int, record: bytes) -> list[int | str]:
    """Return a record as a read answers it."""
    last_order, orders, op, timestamp, size = RECORD.unpack_from(record)
    laptop_type = record[RECORD.size : RECORD.size + size].decode()
    return [customer_id, last_order, orders, laptop_type, op, timestamp]


def check_tail(packed: bytes, start: int, laptop_size: int) -> None:
    """Check what follows the numbers of a restored record or order: laptop type and idempotency key.

    Raises:
        MalformedStateError: it is nothing that was ever placed.
    """
    end = start + laptop_size
    if not 1 <= laptop_size <= LAPTOP_TYPE_SIZE_MAX or not end <= len(packed) <= end + IDEMPOTENCY_KEY_SIZE_MAX:
        raise MalformedStateError("a laptop type or idempotency key of impossible size")
    try:
        packed[start:end].decode()
    except UnicodeDecodeError as error:
        raise MalformedStateError("a laptop type that is not UTF-8") from error


class CustomersPin:
    """All records at one op."""

    __slots__ = ("_ids", "_records")

    def __init__(self, records: BucketsPin[int], ids: OrderedIdsPin) -> None:
        self._records = records
        self._ids = ids

    def at_or_after(self, start: int, count: int) -> list[int]:
        """Return the first `count` customer ids that are not below `start`, ascending."""
        return self._ids.at_or_after(start, count)

    def get(self, customer_id: int) -> bytes | None:
        """Return the record that the customer had, None if there was none."""
        return self._records.get(customer_id)

    def release(self) -> None:
        """Let go of this version."""
        self._records.release()
        self._ids.release()


class Customers:
    """A part of state: a record for each customer who ever ordered. The order of the ids is derived."""

    __slots__ = ("_ids", "_records")

    def __init__(self) -> None:
        self._records: Buckets[int] = Buckets(int)
        self._ids = OrderedIds()

    @property
    def pinned(self) -> int:
        """Live pins."""
        return self._records.pinned

    def get(self, customer_id: int) -> bytes | None:
        """Return a customer's record, None if there is none."""
        return self._records.get(customer_id)

    def put(self, customer_id: int, record: bytes, *, is_new: bool) -> None:
        """Set a customer's record; `is_new` tells whether it is the first one."""
        if is_new:
            self._ids.add((customer_id,))
        self._records.put(customer_id, record)

    def pin(self) -> CustomersPin:
        """Return the present version, immutable."""
        return CustomersPin(self._records.pin(), self._ids.pin())

    def freeze(self) -> FrozenChunks[Bucket]:
        """Pin the present records for a checkpoint."""
        return self._records.freeze()

    def restoring(self) -> RestoringCustomers:
        """Begin to restore."""
        ids = RestoringIds()
        return RestoringCustomers(self._records.restoring(partial(_accept, ids)), partial(self._replace_ids, ids))

    def prepare_digest(self, pieces: int) -> int:
        """Digest at most `pieces` leaves ahead; return how many."""
        return self._records.prepare_digest(pieces)

    def digest(self) -> bytes:
        """Return the digest of all records."""
        return self._records.digest()

    def _replace_ids(self, ids: RestoringIds) -> OrderedIds:
        self._ids, old = ids.finish(), self._ids
        return old


def _accept(ids: RestoringIds, customers: Keys, records: Sequence[bytes]) -> None:
    """Check restored records, and collect their ids."""
    if not customers:
        return
    if customers[-1] > ID_MAX or min(map(len, records)) < RECORD.size:
        raise MalformedStateError("not a customer's record")
    unpack = RECORD.unpack_from
    for record in records:
        last_order, orders, _, _, size = unpack(record)
        if last_order > ID_MAX or not 1 <= orders <= ID_MAX:
            customer_id = customers[records.index(record)]
            raise MalformedStateError(f"impossible numbers in the record of customer {customer_id}")
        check_tail(record, RECORD.size, size)
    ids.add(customers)


class RestoringCustomers:
    """The records and the order of their ids, chunk by chunk."""

    __slots__ = ("_records", "_replace_ids")

    def __init__(self, records: RestoringBuckets[int], replace_ids: Callable[[], OrderedIds]) -> None:
        self._records = records
        self._replace_ids = replace_ids

    def put(self, index: int, data: bytes) -> None:
        """Decode one bucket of records."""
        self._records.put(index, data)

    def finish(self) -> None:
        """Any set of buckets is a whole."""

    def adopt(self) -> Sequence[object]:
        """Replace records and ids; what is left are the old buckets and ids."""
        return [*self._records.adopt(), self._replace_ids()]
