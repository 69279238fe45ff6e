"""A counter that everybody adds to: the smallest machine that is of use.

trio-pb sim run examples/counter.py:Counter --seeds 100
"""

from __future__ import annotations

from collections.abc import Sequence

from trio_pb import canonical
from trio_pb.app.blob import Blob
from trio_pb.app.machine import Page, Question, RejectedError, StateMachine, command, decode_array, encode_value, query
from trio_pb.app.parts import MalformedStateError, Part
from trio_pb.testing import Command, Query, Request, Turn

ADD = 2
READ = 0


class Counter(StateMachine):
    """One number."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def parts(self) -> Sequence[Part]:
        """The number is all there is."""
        return [Blob(encode=lambda: canonical.encode(self.total), decode=_decode_total, adopt=self._set_total)]

    def _set_total(self, total: int) -> None:
        self.total = total

    @command(ADD)
    def add(self, body: bytes, client: bytes, timestamp: int) -> bytes:
        """Add, and answer the sum."""
        (amount,) = decode_array(body, "amount", 1)
        if type(amount) is not int or not 0 < amount < 1000:
            raise RejectedError("bad_field", "amount", "must be a whole number from 1 to 999")
        self.total += amount
        return encode_value(self.total)

    @query(READ)
    def read(self, question: Question) -> Page:
        """Answer the sum."""
        return Page(encode_value(self.total))


def _decode_total(data: bytes) -> int:
    total = canonical.decode(data)
    if type(total) is not int:
        raise MalformedStateError("the state of a counter is one whole number")
    return total


def workload(turn: Turn) -> Request:
    """Two of three ask for an addition, some of them a wrong one; the others read, here or there."""
    kind = turn.random.randrange(6)
    if kind < 4:
        return Command(ADD, canonical.encode([turn.random.choice([1, 2, 3, 5, -1])]))
    return Query(READ, b"", here=kind == 4)
