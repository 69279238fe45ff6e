"""Takes down what is said: each message from its sending to its end, and what clients ask and hear."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from sim.explain.builder import StoryBuilder
from sim.explain.flights import Flights
from sim.explain.lanes import Lanes
from sim.explain.model import Kind, Message
from sim.explain.words import AnyMessage, describe
from sim.network import CLIENT_NODES, Payload
from sim.workload import Operation
from trio_pb.app.machine import RejectedError
from trio_pb.app.orders import PLACE, READ, SCAN, decode_place, decode_read
from trio_pb.core.client_ports import Success
from trio_pb.core.messages import Read, Reply, Request

__all__ = ["Heard", "Post"]

Heard: TypeAlias = "Callable[[int, int, Payload, int], None]"  # (source, replica, payload, event of its arrival)


class Post:
    """Every message of a run, and every operation."""

    def __init__(
        self, builder: StoryBuilder, lanes: Lanes, heard: Heard, is_listening: Callable[[int, Payload], bool]
    ) -> None:
        self._builder = builder
        self._lanes = lanes
        self._heard = heard
        self._is_listening = is_listening
        self._leaving: tuple[object, int] | None = None  # A message whose sending was noted, and its event.
        self.flights = Flights(builder)
        self._asked: dict[bytes, int] = {}  # Body of an operation -> event of its beginning.
        self._begun: dict[int, int] = {}  # Token -> event.
        self._requested: dict[tuple[int, str], int] = {}  # (lane, request) -> event of its last arrival.

    # --- Messages -----------------------------------------------------------------------------------

    def announce(self, message: AnyMessage, event: int) -> None:
        """The sending of this message is that event; what carries it comes next."""
        self._leaving = (message, event)

    def say(self, lane: int, destination: int | None, message: AnyMessage) -> None:
        """Note the sending of a message to or from a client."""
        if isinstance(message, Request | Read):
            self._lanes.learn_client(message, lane)
            self._builder.trigger(lane, ())  # Retries are caused by what was asked, not by what came before them.
        phrase, facts = describe(None, message, self._lanes.request)
        to = "a client" if destination is None else self._lanes.name(destination)
        causes: list[int] = []
        if isinstance(message, Request | Read):
            causes = [self._asked[message.body]] if message.body in self._asked else []
        elif (lane, phrase.asked) in self._requested:
            causes = [self._requested[lane, phrase.asked]]
        event = self._builder.note(
            lane,
            Kind.SEND,
            f"{self._builder.lanes[lane].name} {phrase.said.format(to=to)}",
            about=phrase.about,
            view=message.view if isinstance(message, Reply) else None,
            is_idle=phrase.is_idle,
            facts=facts,
            causes=causes,
        )
        self.announce(message, event)

    def departs(self, source: int, destination: int, payload: Payload) -> Message:
        """A message is given to the network."""
        if self._leaving is None or self._leaving[0] is not payload.message:
            self.say(self._lanes.of(source), destination, payload.message)
        assert self._leaving is not None
        return self._builder.post(self._leaving[1], self._lanes.of(destination), _kind_of(payload.message))

    def arrived(self, source: int, destination: int, payload: Payload) -> None:
        """A message is at the door of its receiver."""
        message = self.flights.landing(destination, payload)
        if message is None:
            return
        phrase, _ = describe(payload.envelope, payload.message, self._lanes.request)
        receiver, sender = self._lanes.name(destination), self._builder.lanes[message.source].name
        is_heard = self._is_listening(destination, payload)
        if is_heard:
            how = " once more: the network made a copy" if message.is_copy else " late" if message.is_late else ""
            text = f"{receiver} {phrase.heard.format(source=sender)}{how}"
        else:
            text = f"{receiver} does not listen: a {phrase.kind} of {sender} comes to nothing"
        event = self._builder.arrive(message, text, about=phrase.about, heard=is_heard)
        if not is_heard:
            return
        if isinstance(payload.message, Request | Read):
            self._requested[self._lanes.of(destination), phrase.asked] = event
        if destination < CLIENT_NODES:
            self._heard(source, destination, payload, event)

    def request_came(self, lane: int, request: str) -> int | None:
        """The event of a request's last arrival at a lane."""
        return self._requested.get((lane, request))

    # --- Operations ---------------------------------------------------------------------------------

    def begins(self, operation: Operation) -> None:
        """A client calls."""
        lane = self._lanes.of_client(operation.client)
        self._builder.trigger(lane, ())
        event = self._builder.note(lane, Kind.ASK, f"{operation.client} wants to {_wish(operation)}")
        self._asked[operation.body] = self._begun[operation.token] = event

    def ends(self, operation: Operation) -> None:
        """A client knows the outcome."""
        lane, outcome = self._lanes.of_client(operation.client), operation.outcome
        begun = self._begun[operation.token]
        about: tuple[str, ...] = ()
        if isinstance(outcome, Success):
            reply = outcome.reply
            text = f"{operation.client} has its answer"
            text += f": it is op {reply.op}" if not operation.is_read else f", as of op {reply.op}"
            about = (self._lanes.request(reply.client, reply.session or -1, reply.number), f"op {reply.op}")
        else:
            assert outcome is not None, "an operation ends with an outcome"
            text = f"{operation.client} gives up ({outcome.reason}): to {_wish(operation)}"
        ended, events = operation.ended or 0, self._builder.events
        took = f"{(ended - events[begun].time) / 1000:.1f} ms after it asked"
        self._builder.note(lane, Kind.ANSWER, f"{text} ({took})", about=about, causes=(begun,))


def _kind_of(message: AnyMessage) -> str:
    """`prepare_ok` for a PrepareOk."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(message).__name__.removesuffix("Message")).lower()


def _wish(operation: Operation) -> str:
    """What an operation is for, if it is one of the orders; any other machine's are named by their code."""
    try:
        if operation.is_read and operation.code == READ:
            where = ", anywhere" if operation.here else ""
            return f"read customer {decode_read(operation.body).customer_id}{where}"
        if operation.is_read and operation.code == SCAN:
            return "scan customers"
        if operation.code == PLACE:
            order = decode_place(operation.body)
            return f"place order {order.order_number} of customer {order.customer_id}"
    except RejectedError:
        pass
    return f"ask query {operation.code}" if operation.is_read else f"have command {operation.code} executed"
