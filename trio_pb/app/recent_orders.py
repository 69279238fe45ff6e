"""The most recent orders of all customers, in a ring, and what each idempotency key among them stands for."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial

from trio_pb.app.customers import check_tail
from trio_pb.app.order_messages import ID_MAX
from trio_pb.app.parts import MalformedStateError
from trio_pb.app.ring import FrozenRing, RestoringRing, Ring, RingPin

__all__ = ["RECENT", "RecentOrders", "recent_fields"]

# A recent order: op, index, customer, order number, size of the laptop type; then the laptop type in
# UTF-8 and the idempotency key (empty: it had none).
RECENT = struct.Struct(">QHQQB")


def recent_fields(order: bytes) -> list[int | str]:
    """Return a recent order as a page lists it."""
    op, index, customer_id, order_number, size = RECENT.unpack_from(order)
    laptop_type = order[RECENT.size : RECENT.size + size].decode()
    return [op, index, customer_id, order_number, laptop_type]


def _name_of(order: bytes) -> bytes:
    """Return customer (8 bytes) and idempotency key of an order, which name it; b"" if it has no key."""
    _, _, customer_id, _, size = RECENT.unpack_from(order)
    key = order[RECENT.size + size :]
    return customer_id.to_bytes(8, "big") + key if key else b""


class RecentOrders:
    """A part of state: the last `capacity` orders. Where a key is in the ring is derived."""

    __slots__ = ("_positions", "_ring")

    def __init__(self, capacity: int) -> None:
        self._ring = Ring(capacity)
        self._positions: dict[bytes, int] = {}  # By customer and key, see _name_of.

    def find(self, customer_id: int, key: bytes) -> bytes | None:
        """Return the order that the customer gave `key`, None if the ring does not have it."""
        position = self._positions.get(customer_id.to_bytes(8, "big") + key)
        return None if position is None else self._ring.get(position)

    def append(self, order: bytes) -> None:
        """Append an order, whose key is not there yet; the oldest makes room, and its key is forgotten with it."""
        position = self._ring.count
        oldest = self._ring.append(order)
        if oldest and (name := _name_of(oldest)):
            del self._positions[name]
        if name := _name_of(order):
            self._positions[name] = position

    def pin(self) -> RingPin:
        """Return the present version, immutable."""
        return self._ring.pin()

    def freeze(self) -> FrozenRing:
        """Pin the present orders for a checkpoint."""
        return self._ring.freeze()

    def restoring(self) -> RestoringRecentOrders:
        """Begin to restore."""
        positions: dict[bytes, int] = {}
        return RestoringRecentOrders(
            self._ring.restoring(partial(_accept, positions)), partial(self._replace_positions, positions)
        )

    def prepare_digest(self, pieces: int) -> int:
        """Digest at most `pieces` pages ahead; return how many."""
        return self._ring.prepare_digest(pieces)

    def digest(self) -> bytes:
        """Return the digest of capacity, count and orders."""
        return self._ring.digest()

    def _replace_positions(self, positions: dict[bytes, int]) -> dict[bytes, int]:
        self._positions, old = positions, self._positions
        return old


def _accept(positions: dict[bytes, int], position: int, order: bytes) -> None:
    """Check a restored order, and note its key."""
    if len(order) < RECENT.size:
        raise MalformedStateError("not a recent order")
    _, _, customer_id, order_number, size = RECENT.unpack_from(order)
    if max(customer_id, order_number) > ID_MAX:
        raise MalformedStateError("impossible numbers in a recent order")
    check_tail(order, RECENT.size, size)
    if name := _name_of(order):
        if name in positions:
            raise MalformedStateError(f"two orders of customer {customer_id} with one key")
        positions[name] = position


class RestoringRecentOrders:
    """The recent orders and the positions of their keys, chunk by chunk."""

    __slots__ = ("_replace_positions", "_ring")

    def __init__(self, ring: RestoringRing, replace_positions: Callable[[], dict[bytes, int]]) -> None:
        self._ring = ring
        self._replace_positions = replace_positions

    def put(self, index: int, data: bytes) -> None:
        """Decode the header or a page."""
        self._ring.put(index, data)

    def finish(self) -> None:
        """Check that header and all pages are there."""
        self._ring.finish()

    def adopt(self) -> Sequence[object]:
        """Replace orders and positions; what is left are the old pages and positions."""
        return [*self._ring.adopt(), self._replace_positions()]
