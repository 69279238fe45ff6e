"""A client of the teaching protocol: one request at a time, asked again until it is answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sim.naive.judges import Call
from sim.naive.ports import ClientMessage, Order, Read, Redirect, Reply, ServerMessage
from sim.scheduler import TICK_US, Scheduler

__all__ = ["NaiveClient"]

PATIENCE_TICKS = 40  # Until it asks the next replica.
REDIRECT_TICKS = 2  # Before it follows a hint: two replicas may point at each other for a while.


class NaiveClient:
    """One client. It keeps its requests' numbers over retries, and thinks first of whoever answered last."""

    def __init__(
        self,
        node: int,
        name: str,
        replicas: int,
        scheduler: Scheduler,
        send: Callable[[int, int, ClientMessage], None],
        asked: Callable[[Call, int], None],
        answered: Callable[[Call, int, Reply], None],
    ) -> None:
        """`send(client, replica, message)` puts a message on its way; the others hear of questions and answers."""
        self.node = node
        self.name = name
        self.replicas = replicas
        self.target = 0
        self._scheduler = scheduler
        self._send = send
        self._asked = asked
        self._answered = answered
        self._waiting: deque[Call] = deque()
        self._number = 0
        self._attempt = 0  # Of the first in line; a timer knows by it that it is late.

    def submit(self, customer: int, laptop: str | None) -> Call:
        """Ask for something, after all that was asked before."""
        self._number += 1
        call = Call(self.name, self._number, customer, laptop)
        self._waiting.append(call)
        if len(self._waiting) == 1:
            self._ask()
        return call

    def hear(self, replica: int, message: ServerMessage) -> None:
        """An answer came; whatever is not about the first in line is late."""
        if not self._waiting or message.number != self._waiting[0].number:
            return
        if type(message) is Redirect:
            if message.primary != replica:
                self.target = message.primary
                self._attempt += 1
                self._scheduler.after(REDIRECT_TICKS * TICK_US, self._retry, self._attempt)
            return
        assert type(message) is Reply
        call = self._waiting.popleft()
        self.target = replica
        self._attempt += 1
        self._answered(call, replica, message)
        if self._waiting:
            self._ask()

    def _ask(self) -> None:
        call = self._waiting[0]
        self._attempt += 1
        self._asked(call, self.target)
        if call.laptop is None:
            self._send(self.node, self.target, Read(self.node, call.number, call.customer))
        else:
            self._send(self.node, self.target, Order(self.node, call.number, call.customer, call.laptop))
        self._scheduler.after(PATIENCE_TICKS * TICK_US, self._give_up, self._attempt)

    def _give_up(self, attempt: int) -> None:
        if attempt == self._attempt and self._waiting:
            self.target = (self.target + 1) % self.replicas
            self._ask()

    def _retry(self, attempt: int) -> None:
        if attempt == self._attempt and self._waiting:
            self._ask()
