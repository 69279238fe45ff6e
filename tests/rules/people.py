"""The clients among the rules: each registers, has a window of orders open, and asks again until it is answered."""

from __future__ import annotations

from trio_pb.app.orders import PLACE, READ, PlaceOrder, ReadCustomer, encode_place, encode_read
from trio_pb.core.messages import CODE_REGISTER, Read, ReadMode, Reject, RejectCode, Reply, Request

__all__ = ["Person"]

FIRST_READ = 1001  # Reads are numbered apart from requests (5.4).
ENDS = (RejectCode.NO_SESSION, RejectCode.SNAPSHOT_GONE)  # Asking again would not help; all else is tried again.


class Person:
    """One client; when its session is gone it comes back as somebody else."""

    def __init__(self, number: int, window: int) -> None:
        self.number = number
        self.name = f"C{number}"
        self.session = 0
        self.open: dict[int, Request] = {}  # What waits for an answer, by number; 0 registers.
        self.reads: dict[int, Read] = {}
        self._window = window
        self._lives = 0
        self._last_number = 0  # Of an order, in this session,
        self._last_read = FIRST_READ - 1  # of a read, ever.
        self.id = self._new_id()

    def __repr__(self) -> str:
        return self.name

    def _new_id(self) -> bytes:
        self._lives += 1
        return bytes([self.number + 1, self._lives]) * 8

    @property
    def is_waiting(self) -> bool:
        """Whether it lacks an answer."""
        return bool(self.open or self.reads)

    @property
    def unanswered(self) -> list[Request | Read]:
        """What it lacks an answer to."""
        return [*self.open.values(), *self.reads.values()]

    @property
    def may_order(self) -> bool:
        """Whether its window has room for one more (5.4)."""
        return self.session > 0 and (not self.open or self._last_number + 1 - min(self.open) < self._window)

    def register(self) -> Request:
        """Ask for a session."""
        return self._keep(Request(self.id, 0, 0, CODE_REGISTER, b""))

    def order(self) -> Request:
        """Place an order; no two are alike."""
        self._last_number += 1
        number = self._last_number
        placed = PlaceOrder(1 + self.number % 2, number, f"laptop {self.id.hex()[:4]}.{number}", True, None)
        return self._keep(Request(self.id, self.session, number, PLACE, encode_place(placed)))

    def read(self, *, here: bool) -> Read:
        """Ask for a customer's record, at the primary or `here`."""
        self._last_read += 1
        mode = ReadMode.LINEARIZABLE_HERE if here else ReadMode.LINEARIZABLE
        body = encode_read(ReadCustomer(1 + self._last_read % 2))
        asked = self.reads[self._last_read] = Read(self.id, self._last_read, READ, body, mode, 0, b"")
        return asked

    def _keep(self, request: Request) -> Request:
        self.open[request.number] = request
        return request

    def hear(self, answer: Reply | Reject) -> None:
        """An answer comes; whatever is not known any more was answered before."""
        if answer.client != self.id:
            return
        is_read = answer.session == 0 and answer.number in self.reads
        if isinstance(answer, Reject):
            if answer.code is RejectCode.NO_SESSION and answer.session == self.session and self.session:
                self._start_over()
            elif is_read and answer.code in ENDS:
                del self.reads[answer.number]
            return
        if is_read:
            del self.reads[answer.number]
        elif self.open.pop(answer.number, None) is not None and answer.number == 0:
            self.session = answer.session

    def _start_over(self) -> None:
        self.session = self._last_number = 0
        self.open.clear()
        self.reads.clear()
        self.id = self._new_id()
