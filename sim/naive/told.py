"""A run of the teaching protocol, told: its events for a story (`sim.telling`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, cast

import attrs

from sim.explain.builder import StoryBuilder
from sim.explain.flights import Flights
from sim.explain.model import Held, Kind, LaneKind, LogCell, Message, Value
from sim.naive.judges import Call
from sim.naive.ports import (
    Acknowledge,
    AskLog,
    Entry,
    Follow,
    Forward,
    Heartbeat,
    LogCopy,
    Order,
    Read,
    Redirect,
    Reply,
    Saved,
    TakeOver,
)
from sim.naive.replica import Replica
from sim.network import CLIENT_NODES, Payload

__all__ = ["NaiveStory"]

LABEL_LENGTH = 6
LOG_CELLS = 12  # Newest orders of a log that are shown.


class _Machine(Protocol):
    """What is looked at of a replica."""

    number: int
    saved: Saved
    core: Replica | None


@attrs.frozen
class _Words:
    """What one says and another hears; {to} and {source} stand for the other one."""

    said: str
    heard: str
    about: tuple[str, ...] = ()
    is_idle: bool = False


class NaiveStory:
    """Turns what happens in a naive cluster into events."""

    def __init__(self, builder: StoryBuilder, now: Callable[[], int], replicas: int) -> None:
        self._builder = builder
        self.flights = Flights(builder)
        builder.now = now
        self._lanes = {number: builder.add_lane(f"R{number}") for number in range(replicas)}
        self._committed = dict.fromkeys(range(replicas), 0)
        self._asked: dict[tuple[str, int], int] = {}  # (client, number) -> event.

    # --- Replicas -------------------------------------------------------------------------------

    def started(self, machine: _Machine) -> None:
        """A process starts."""
        saved, lane = machine.saved, self._lanes[machine.number]
        self._builder.trigger(lane, ())
        self._committed[machine.number] = 0
        held = f"view {saved.view} and {len(saved.log)} orders" if saved.log or saved.view else "nothing"
        self._builder.note(lane, Kind.START, f"R{machine.number} starts: its disk holds {held}", view=saved.view)

    def crashed(self, machine: _Machine) -> None:
        """A process dies; its disk stays."""
        lane = self._lanes[machine.number]
        self._builder.note(lane, Kind.CRASH, f"R{machine.number} crashes")
        fields: dict[str, Value] = {"status": "down", "role": "", "view": machine.saved.view}
        self._builder.state(lane, fields, _cells(machine.saved.log, machine.saved, 0))

    def timed_out(self, machine: _Machine) -> None:
        """Time passed for a replica: what it does now has no other cause."""
        self._builder.trigger(self._lanes[machine.number], ())

    def changed_view(self, machine: _Machine, core: Replica) -> None:
        """A replica has the log of another view."""
        if core.is_primary:
            kind, what = Kind.PRIMARY, f"leads view {core.view}"
        else:
            kind, what = Kind.BACKUP, f"follows R{core.primary} into view {core.view}"
        text = f"R{machine.number} {what} with {len(core.log)} orders"
        self._builder.note(self._lanes[machine.number], kind, text, about=(f"view {core.view}",), view=core.view)

    def saved(self, machine: _Machine, saved: Saved) -> None:
        """A replica writes to its disk."""
        new = [entry for entry in saved.log if entry not in machine.saved.log]
        what = [entry.laptop for entry in new] or [f"view {saved.view}"]
        about = tuple(what)
        text = f"R{machine.number}'s disk holds {', '.join(what)}"
        self._builder.note(self._lanes[machine.number], Kind.DURABLE, text, about=about, view=saved.view)

    def applied(self, machine: _Machine, position: int, entry: Entry) -> None:
        """A state machine executes an order."""
        text = f"R{machine.number} executes {entry.laptop}, order {position} of its log"
        about = (f"order {position}", entry.laptop)
        view = machine.core.view if machine.core is not None else None
        self._builder.note(self._lanes[machine.number], Kind.APPLY, text, about=about, view=view)

    def stepped(self, machine: _Machine, core: Replica) -> None:
        """A replica took a step, and its outputs are carried out."""
        lane, number = self._lanes[machine.number], machine.number
        if core.committed > self._committed[number]:
            new = core.log[self._committed[number] : core.committed]
            self._committed[number] = core.committed
            laptops = tuple(entry.laptop for entry in new)
            if laptops:
                text = f"R{number} takes {', '.join(laptops)} for committed, up to order {core.committed}"
                about = (*laptops, f"order {core.committed}")
                self._builder.note(lane, Kind.COMMIT, text, about=about, view=core.view)
        role = "primary" if core.is_primary else "backup" if core.log_view == core.view else ""
        fields: dict[str, Value] = {
            "status": "normal" if role else "view change",
            "role": role,
            "view": core.view,
            "log of view": core.log_view,
            "orders": len(core.log),
            "committed": core.committed,
            "executed": core.executed,
        }
        self._builder.state(lane, fields, _cells(core.log, machine.saved, core.committed))

    # --- Messages -------------------------------------------------------------------------------

    def departs(self, source: int, destination: int, payload: Payload) -> Message:
        """A message is given to the network."""
        message: object = payload.message
        words, lane = _words(message), self._lane(source)
        causes: list[int] = []
        if isinstance(message, Order | Read):
            self._builder.trigger(lane, ())  # Retries are caused by what was asked.
            asked = self._asked.get((self._builder.lanes[lane].name, message.number))
            causes = [] if asked is None else [asked]
        to = self._builder.lanes[self._lane(destination)].name
        (sent,) = self._builder.send(
            lane,
            (self._lane(destination),),
            type(message).__name__.lower(),
            f"{self._builder.lanes[lane].name} {words.said.format(to=to)}",
            about=words.about,
            view=cast("int | None", getattr(message, "view", None)),
            is_idle=words.is_idle,
            facts=_facts(message),
            causes=causes,
        )
        return sent

    def arrives(self, destination: int, payload: Payload, *, heard: bool) -> None:
        """A message is at the door of its receiver."""
        message = self.flights.landing(destination, payload)
        if message is None:
            return
        lanes = self._builder.lanes
        receiver, source = lanes[message.destination].name, lanes[message.source].name
        words = _words(payload.message)
        again = " once more: the network made a copy" if message.is_copy else ""
        text = f"{receiver} {words.heard.format(source=source)}{again}"
        if not heard:
            text = f"{receiver} does not listen: a {message.kind} of {source} comes to nothing"
        self._builder.arrive(message, text, heard=heard)

    # --- Clients and scripts --------------------------------------------------------------------

    def client(self, node: int, name: str) -> None:
        """One more client."""
        self._lanes[node] = self._builder.add_lane(name, LaneKind.CLIENT)

    def asks(self, call: Call, node: int) -> None:
        """A client wants something."""
        about = (call.laptop,) if call.laptop is not None else ()
        text = f"{call.client} wants {call.text}"
        self._builder.trigger(self._lane(node), ())
        event = self._builder.note(self._lane(node), Kind.ASK, text, about=about)
        self._asked[call.client, call.number] = event

    def answered(self, call: Call, node: int, reply: Reply) -> None:
        """A client has its answer."""
        heard = ", ".join(reply.laptops) or "nothing"
        about = (call.laptop,) if call.laptop is not None else ()
        text = f"{call.client} knows the answer to {call.text}: {heard}"
        self._builder.note(self._lane(node), Kind.ANSWER, text, about=about)

    def happens(self, text: str, *, is_harm: bool) -> None:
        """Something happens to the network."""
        self._builder.note(self._builder.world, Kind.FAULT if is_harm else Kind.HEAL, text)

    def _lane(self, node: int) -> int:
        if node not in self._lanes:
            self.client(node, f"client {node - CLIENT_NODES}")
        return self._lanes[node]


def _cells(log: list[Entry] | tuple[Entry, ...], saved: Saved, committed: int) -> list[LogCell]:
    """Entries do not say which view made them: all have one colour, and differ in their labels."""
    first = max(len(log) - LOG_CELLS, 0)
    return [
        LogCell(
            position,
            0,
            entry.laptop.removeprefix("laptop-")[-LABEL_LENGTH:],
            Held.DURABLE if entry in saved.log else Held.MEMORY,
            position <= committed,
        )
        for position, entry in enumerate(log[first:], first + 1)
    ]


def _facts(message: object) -> dict[str, Value]:
    kind = cast("type[attrs.AttrsInstance]", type(message))
    values: dict[str, object] = {field.name: getattr(message, field.name) for field in attrs.fields(kind)}
    return {name: value if isinstance(value, int | str) else _laptops(value) for name, value in values.items()}


def _laptops(value: object) -> str:
    if isinstance(value, Order):
        return value.laptop
    items = cast("tuple[object, ...]", value) if isinstance(value, tuple) else ()
    return ", ".join(item.laptop if isinstance(item, Order) else str(item) for item in items)


def _words(message: object) -> _Words:
    return _WORDS[type(message)](message)


_Make: TypeAlias = Callable[[Any], _Words]  # Each takes the class that it stands beside.
_WORDS: dict[type[object], _Make] = {
    Order: lambda it: _Words(f"orders {it.laptop} at {{to}}", f"gets the order of {it.laptop} from {{source}}"),
    Read: lambda it: _Words(f"asks {{to}} for customer {it.customer}", f"is asked by {{source}} for {it.customer}"),
    Reply: lambda it: _Words(
        f"answers {{to}}: {', '.join(it.laptops) or 'nothing'}, as of order {it.position}",
        f"hears from {{source}}: {', '.join(it.laptops) or 'nothing'}",
        it.laptops[-1:],
    ),
    Redirect: lambda it: _Words(f"sends {{to}} to R{it.primary}", f"is sent to R{it.primary} by {{source}}"),
    Forward: lambda it: _Words(
        f"forwards {it.entry.laptop} to {{to}} as order {it.position} of view {it.view}",
        f"gets {it.entry.laptop} as order {it.position} of view {it.view} from {{source}}",
        (f"order {it.position}", it.entry.laptop),
    ),
    Heartbeat: lambda it: _Words(
        f"tells {{to}} that it leads view {it.view}", f"hears that {{source}} leads view {it.view}", is_idle=True
    ),
    Acknowledge: lambda it: _Words(
        f"acknowledges to {{to}} everything up to order {it.position} of view {it.view}",
        f"hears that {{source}} has everything up to order {it.position} of view {it.view}",
        (f"order {it.position}",),
    ),
    AskLog: lambda it: _Words(
        f"asks {{to}} for its log of view {it.view} from order {it.first + 1} on",
        f"is asked by {{source}} for its log from order {it.first + 1} on",
        (f"view {it.view}",),
    ),
    LogCopy: lambda it: _Words(
        f"sends {{to}} its log of view {it.view} from order {it.first + 1} on: {_laptops(it.entries) or 'empty'}",
        f"gets the log of view {it.view} from {{source}}: {_laptops(it.entries) or 'empty'}",
        (f"view {it.view}",),
    ),
    TakeOver: lambda it: _Words(
        f"asks {{to}} to follow it into view {it.view}",
        f"is asked to follow {{source}} into view {it.view}",
        (f"view {it.view}",),
    ),
    Follow: lambda it: _Words(
        f"follows {{to}} into view {it.view}, with the log of view {it.log_view}: {_laptops(it.log) or 'empty'}",
        f"hears that {{source}} follows into view {it.view}, with the log of view {it.log_view}: "
        f"{_laptops(it.log) or 'empty'}",
        (f"view {it.view}",),
    ),
}
