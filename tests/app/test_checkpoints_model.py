"""A state reached by replay and one reached by restoring are the same state, whenever its chunks were encoded."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_pb.app.orders import (
    ID_MAX,
    PLACE,
    RECENT,
    SCAN,
    Orders,
    PlaceOrder,
    ReadRecent,
    ScanCustomers,
    encode_place,
    encode_recent,
    encode_scan,
)
from trio_pb.app.parts import Frozen

CLIENT = b"c" * 16

Items = list[tuple[int, bytes, int, bytes]]

places = st.builds(
    PlaceOrder,
    st.sampled_from([0, 1, 2, 300, ID_MAX]),
    st.one_of(st.integers(0, 5), st.just(ID_MAX)),
    st.sampled_from(["a", "läptop", "x" * 64]),
    st.booleans(),
    st.one_of(st.none(), st.sampled_from([b"k", b"l", b"m" * 64])),
)


@attrs.define
class Op:
    """One op of the log, and what it answered."""

    op: int
    items: Items
    results: tuple[bytes, ...]


@attrs.define
class Checkpoint:
    """A checkpoint being written: as a directory of chunks named by digest would have it."""

    op: int
    digest: bytes
    frozen: Frozen
    left: list[int]
    manifest: dict[int, bytes]


def replay(machine: Orders, ops: Sequence[Op]) -> None:
    """Apply ops, each of which must answer what it answered the first time."""
    for op in ops:
        assert machine.apply(op.op, op.op * 1000, op.items) == op.results


class RestoredIsReplayed(RuleBasedStateMachine):
    """One replica runs and writes checkpoints bit by bit; a twin is restored from each and goes on."""

    @initialize(ring_size=st.sampled_from([1, 3, 300, 520]))
    def start(self, ring_size: int) -> None:
        """Start both."""
        self.ring_size = ring_size
        self.runner = Orders(recent_orders_max=ring_size)
        self.twin = Orders(recent_orders_max=ring_size)
        self.log: list[Op] = []
        self.op = 0
        self.store: dict[bytes, bytes] = {}
        self.checkpoint: Checkpoint | None = None

    def run_op(self, orders: Sequence[PlaceOrder]) -> None:
        """Apply one op on both."""
        self.op += 1
        items: Items = [(index, CLIENT, PLACE, encode_place(order)) for index, order in enumerate(orders)]
        results = self.runner.apply(self.op, self.op * 1000, items)
        self.log.append(Op(self.op, items, results))
        replay(self.twin, self.log[-1:])

    @rule(orders=st.lists(places, max_size=5))
    def apply(self, orders: list[PlaceOrder]) -> None:
        """A few orders that collide."""
        self.run_op(orders)

    @rule(count=st.integers(100, 300), stride=st.integers(1, 9))
    def rush(self, count: int, stride: int) -> None:
        """Many orders, so that the ring has pages and goes round."""
        self.run_op([PlaceOrder(n * stride, self.op, "rush", False, b"%d" % n) for n in range(count)])

    @rule()
    @precondition(lambda self: self.checkpoint is None)
    def freeze(self) -> None:
        """Begin a checkpoint."""
        frozen = self.runner.freeze()
        self.checkpoint = Checkpoint(self.op, self.runner.digest(), frozen, list(frozen.places), {})

    @rule(data=st.data())
    @precondition(lambda self: self.checkpoint is not None)
    def encode(self, data: st.DataObject) -> None:
        """Encode some chunks, in any order; what is known must be in the store under that name."""
        checkpoint = self.checkpoint
        assert checkpoint is not None
        for _ in range(data.draw(st.integers(0, len(checkpoint.left)))):
            place = checkpoint.left.pop(data.draw(st.integers(0, len(checkpoint.left) - 1)))
            self.write(checkpoint, place)

    def write(self, checkpoint: Checkpoint, place: int) -> None:
        """Write one chunk, unless it is known."""
        known = checkpoint.frozen.known(place)
        if known is None:
            data = checkpoint.frozen.encode(place)
            known = blake2b(data, digest_size=32).digest(), len(data)
            self.store[known[0]] = data
            assert checkpoint.frozen.known(place) == known
        checkpoint.manifest[place] = known[0]
        assert len(self.store[known[0]]) == known[1]

    @rule()
    @precondition(lambda self: self.checkpoint is not None)
    def finish(self) -> None:
        """The twin is restored and goes on; a replica that replays the log has the same chunks."""
        checkpoint = self.checkpoint
        assert checkpoint is not None
        for place in checkpoint.left:
            self.write(checkpoint, place)
        checkpoint.frozen.release()
        self.checkpoint = None

        restoring = self.twin.restoring()
        for place in sorted(checkpoint.manifest):
            restoring.put(place, self.store[checkpoint.manifest[place]])
        self.twin.adopt(restoring, checkpoint.op)
        assert self.twin.digest() == checkpoint.digest
        frozen = self.twin.freeze()
        assert {place: (frozen.known(place) or (b"", 0))[0] for place in frozen.places} == checkpoint.manifest
        assert {place: frozen.encode(place) for place in frozen.places} == {
            place: self.store[digest] for place, digest in checkpoint.manifest.items()
        }
        frozen.release()

        other = Orders(recent_orders_max=self.ring_size)
        replay(other, [op for op in self.log if op.op <= checkpoint.op])
        frozen = other.freeze()
        assert {
            place: blake2b(frozen.encode(place), digest_size=32).digest() for place in frozen.places
        } == checkpoint.manifest
        assert other.digest() == checkpoint.digest

        replay(self.twin, [op for op in self.log if op.op > checkpoint.op])

    @invariant()
    def both_are_the_same(self) -> None:
        """Digests, scans and recent orders are equal."""
        if self.op:
            assert self.twin.digest() == self.runner.digest()
            items = [
                (1, 1, SCAN, encode_scan(ScanCustomers(0, 2000)), b""),
                (2, 1, RECENT, encode_recent(ReadRecent(0, 2000)), b""),
            ]
            assert self.twin.query(self.op, 0, items) == self.runner.query(self.op, 0, items)


RestoredIsReplayed.TestCase.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
TestRestoredIsReplayed = RestoredIsReplayed.TestCase
