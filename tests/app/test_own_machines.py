"""Machines of one's own parts: checkpoints, digests and the freeing of old states come with the base class."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import pytest

from tests.app.states import CLIENT, checkpoint, restore, unknown
from trio_pb import canonical
from trio_pb.app.blob import Blob
from trio_pb.app.buckets import Buckets
from trio_pb.app.machine import (
    LEFTOVERS_PER_OP,
    Page,
    Question,
    StateMachine,
    command,
    encode_value,
    query,
)
from trio_pb.app.parts import PART_PLACES, MalformedStateError, Part
from trio_pb.app.ring import RestoringRing, Ring


class Pantry(StateMachine):
    """A map with keys of bytes, a ring and a number: every kind of part."""

    def __init__(self) -> None:
        super().__init__()
        self.stock = Buckets(bytes)
        self.last = Ring(3)
        self.total = 0

    def parts(self) -> Sequence[Part]:
        """Return all three."""
        total = Blob(encode=lambda: canonical.encode(self.total), decode=decode_total, adopt=self.set_total)
        return (self.stock, self.last, total)

    def set_total(self, total: int) -> None:
        """Take a restored total."""
        self.total = total

    @command(2)
    def store(self, body: bytes, client: bytes, timestamp: int) -> bytes:
        """Store a thing under its own first byte."""
        self.stock.put(body[:1], body)
        self.last.append(body)
        self.total += len(body)
        return encode_value(self.total)

    @query(2)
    def get(self, question: Question) -> Page:
        """Answer the thing under a byte."""
        return Page(encode_value(self.stock.get(question.body)))


def decode_total(data: bytes) -> int:
    """Return the total that `data` encodes; ValueError for any other bytes."""
    total = canonical.decode(data)
    if type(total) is not int or total < 0:
        raise ValueError("not a total")
    return total


def test_a_machine_of_parts_gets_checkpoints_and_digests_without_more_code() -> None:
    """It freezes, restores, goes on alike, and names what is wrong with other bytes."""
    one, other = Pantry(), Pantry()
    for op, body in enumerate((b"apple", b"bread", b"avocado", b"cheese", b""), 1):
        one.apply(op, 0, [(0, CLIENT, 2, body)] if body else [])
    chunks = checkpoint(one)
    restore(other, chunks, 5)
    assert other.digest() == one.digest() != Pantry().digest()
    assert other.query(5, 0, [(1, 1, 2, b"a", b"")]) == one.query(5, 0, [(1, 1, 2, b"a", b"")])
    assert other.apply(6, 0, [(0, CLIENT, 2, b"dates")]) == one.apply(6, 0, [(0, CLIENT, 2, b"dates")])
    assert checkpoint(other) == checkpoint(one)
    frozen = one.freeze()
    one.apply(7, 0, [(0, CLIENT, 2, b"eggs")])
    assert unknown(frozen) == []
    assert 3 * PART_PLACES in unknown(one.freeze())
    for bad in (b"\xff", canonical.encode("total")):
        with pytest.raises(MalformedStateError):
            restore(other, {**chunks, 3 * PART_PLACES: bad}, 5)
    assert other.total == one.total - 4


def test_a_machine_that_names_no_parts_cannot_be_made() -> None:
    """Whoever forgot them learns the name of the method when the machine is made, not at the first checkpoint."""

    class Forgetful(StateMachine):
        pass

    with pytest.raises(TypeError, match=r"Forgetful.*parts"):
        Forgetful()  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]


class Piece(list[int]):
    """Something that can be watched, which a plain list cannot."""


class Hoard(Ring):
    """A ring that leaves more pieces than one op frees."""

    def __init__(self) -> None:
        super().__init__(1)
        self.pieces = [Piece() for _ in range(2 * LEFTOVERS_PER_OP)]

    def restoring(self, accept: Callable[[int, bytes], None] | None = None) -> RestoringRing:
        """Begin to restore."""
        return RestoringRing(1, self._header.restoring(), accept, self._hand_over)

    def _hand_over(self, restored: RestoringRing) -> Sequence[object]:
        pieces, self.pieces = self.pieces, []
        return pieces


class Hoarder(StateMachine):
    """A machine with a hoard."""

    def __init__(self) -> None:
        super().__init__()
        self.hoard = Hoard()

    def parts(self) -> Sequence[Part]:
        """Return the hoard."""
        return [self.hoard]


def test_the_old_state_is_freed_bit_by_bit() -> None:
    """Freeing a million records at once would stop the replica: some go with each op that follows."""
    hoarder = Hoarder()
    watched = [weakref.ref(piece) for piece in hoarder.hoard.pieces]

    def left() -> int:
        return sum(reference() is not None for reference in watched)

    restore(hoarder, checkpoint(hoarder), 1)
    assert left() == 2 * LEFTOVERS_PER_OP
    hoarder.apply(2, 0, [])
    assert left() == LEFTOVERS_PER_OP
    hoarder.apply(3, 0, [])
    assert left() == 0
