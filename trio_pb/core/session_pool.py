"""The sessions of one client: which request gets which number of which session (PROTOCOL 5.4).

Requests wait in queues until they get a number. A *seat* is one place of the pool; its session may be lost and
replaced, while the requests of its lanes stay queued there, in their order. Requests without a lane take the
sessions in turn, so that hundreds of callers share few sessions.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator

import attrs

from trio_pb.core.client_ports import Submit
from trio_pb.core.session_client import Pending, Session, client_id

__all__ = ["SessionPool"]

Queue = OrderedDict[int, Submit]  # By token, in the order of arrival; none has a number yet.


@attrs.define(eq=False)
class _Seat:
    """One place of the pool."""

    queue: Queue = attrs.Factory(Queue)  # Of its lanes.
    session: Session | None = None


class SessionPool:
    """Up to `sessions_max` sessions at a time, under client ids made of `identity`."""

    def __init__(self, identity: bytes, sessions_max: int) -> None:
        self.sessions: dict[bytes, Session] = {}  # By client id; lost ones while something is under way.
        self.numbered: dict[int, Pending] = {}  # By token: requests that have a number and no outcome.
        self._identity = identity
        self._sessions_max = sessions_max
        self._sessions_made = 0
        self._seats: dict[int, _Seat] = {}  # By index, below sessions_max.
        self._seated = 0  # Those that have a session.
        self._turn: deque[_Seat] = deque()  # The same seats; whose turn it is to take from the queue.
        self._queue = Queue()  # Of those without a lane.
        self._queue_of: dict[int, Queue] = {}  # Token -> the queue that holds it.

    @property
    def queued(self) -> list[Submit]:
        """The requests without a number, in the order of arrival."""
        return [queue[token] for token, queue in self._queue_of.items()]

    @property
    def is_working(self) -> bool:
        """Whether anything waits for an answer, be it only a number that must be used up."""
        return bool(self._queue_of) or any(it.pending and not it.is_lost for it in self.sessions.values())

    @property
    def outstanding(self) -> int:
        """Tokens without an outcome."""
        return len(self._queue_of) + len(self.numbered)

    def __contains__(self, token: int) -> bool:
        return token in self._queue_of or token in self.numbered

    def is_queued(self, token: int) -> bool:
        """Whether the request has no number yet: it was never sent."""
        return token in self._queue_of

    def find(self, client: bytes, number: int) -> Pending | None:
        """Return what an answer is about; None when an earlier answer came first."""
        session = self.sessions.get(client)
        return session.pending.get(number) if session is not None else None

    def lowest(self) -> Iterator[Pending]:
        """Yield the lowest number of each session: a primary would hold any other without an answer."""
        for session in self.sessions.values():
            lowest = session.lowest
            if lowest is not None and not session.is_lost:
                yield lowest

    # --- Queues ---------------------------------------------------------------------------------

    def put(self, submit: Submit) -> None:
        """Queue a request: behind all others of its lane, if it has one."""
        queue = self._queue if submit.lane is None else self._seat(submit.lane % self._sessions_max).queue
        queue[submit.token] = submit
        self._queue_of[submit.token] = queue

    def remove(self, token: int) -> None:
        """Let go of a request that has its outcome. A number that it had must still be used up."""
        queue = self._queue_of.pop(token, None)
        if queue is not None:
            del queue[token]
        self.numbered.pop(token, None)

    # --- Numbers --------------------------------------------------------------------------------

    def take(self, window: int) -> Iterator[Pending]:
        """Yield what is to be sent now: requests as far as the windows allow, and registrations of new sessions."""
        if not self._queue_of:
            return
        for seat in self._seats.values():
            if seat.queue:
                if seat.session is None:
                    yield self._open(seat)
                while seat.queue and seat.session is not None and seat.session.has_room(window):
                    yield self._assign(seat.session, seat.queue)
        misses = 0
        while self._queue and misses < len(self._turn):
            seat = self._turn[0]
            self._turn.rotate(-1)
            if seat.session is not None and seat.session.has_room(window):
                misses = 0
                yield self._assign(seat.session, self._queue)
            else:
                misses += 1
        yield from self._grow(window)

    def take_one(self, window: int) -> Pending | None:
        """Give one request a number, or register, though nobody leads: to have something to ask with."""
        for seat in self._seats.values():
            session = seat.session
            queue = seat.queue or self._queue
            if session is not None and not session.pending and queue and session.has_room(window):
                return self._assign(session, queue)
        if self.sessions or not self._queue_of:
            return None
        laned = (seat for seat in self._seats.values() if seat.queue)
        return self._open(next(laned, None) or self._seat(0))

    def settle(self, pending: Pending) -> None:
        """A number has its answer, or will never get one: the session is done with it."""
        session = pending.session
        del session.pending[pending.number]
        if session.is_lost and not session.pending:
            self.sessions.pop(session.client, None)

    def lose(self, session: Session) -> None:
        """The cluster evicted the session: its seat gets another, and nothing is sent in it any more."""
        session.is_lost = True
        for seat in self._seats.values():
            if seat.session is session:
                seat.session = None
                self._seated -= 1
        if not session.pending:
            self.sessions.pop(session.client, None)

    def _grow(self, window: int) -> Iterator[Pending]:
        """Register as many sessions as the queue can fill."""
        if self._seated >= self._sessions_max or not self._queue:
            return
        opening = sum(1 for session in self.sessions.values() if not session.is_open and not session.is_lost)
        needed = -(-len(self._queue) // window) - opening
        for index in range(self._sessions_max):
            if needed <= 0:
                return
            seat = self._seat(index)
            if seat.session is None:
                yield self._open(seat)
                needed -= 1

    def _seat(self, index: int) -> _Seat:
        seat = self._seats.get(index)
        if seat is None:
            seat = self._seats[index] = _Seat()
            self._turn.append(seat)
        return seat

    def _open(self, seat: _Seat) -> Pending:
        """Begin a session under a client id that was never used; returns its registration."""
        session = seat.session = Session(client_id(self._identity, self._sessions_made))
        self._sessions_made += 1
        self._seated += 1
        self.sessions[session.client] = session
        return session.pending[0]

    def _assign(self, session: Session, queue: Queue) -> Pending:
        token, submit = queue.popitem(last=False)
        del self._queue_of[token]
        pending = session.assign(token, submit.code, submit.body, submit.deadline_ms)
        self.numbered[token] = pending
        return pending
