"""Messages between their sending and their end, and a network that tells what becomes of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from sim.explain.builder import StoryBuilder
from sim.explain.model import Fate, Message
from sim.network import Network, Payload

__all__ = ["Departs", "Flights", "ListeningNetwork"]

Departs: TypeAlias = "Callable[[int, int, Payload], Message]"  # (source, destination, what is sent)

LOSSES = frozenset({"lost", "corrupted", "overflowed"})  # As the network and its links count them.


class Flights:
    """All messages under way. A payload is known by its identity, and kept alive here; one may go to several places."""

    def __init__(self, builder: StoryBuilder) -> None:
        self._builder = builder
        self._flying: dict[tuple[int, int], tuple[Message, Payload]] = {}  # By payload and destination.

    def carried_by(self, message: Message, destination: int, payload: Payload) -> None:
        """From now on this payload is that message."""
        self._flying[id(payload), destination] = (message, payload)

    def of(self, destination: int, payload: Payload) -> Message | None:
        """The message that a payload is; None: somebody else than the network brought it."""
        found = self._flying.get((id(payload), destination))
        return None if found is None else found[0]

    def landing(self, destination: int, payload: Payload) -> Message | None:
        """The same for one that arrives: if it arrived before, the network made a copy."""
        message = self.of(destination, payload)
        if message is not None and message.fate is not Fate.FLYING:
            return self._builder.repeat(message)
        return message

    def settle(self, message: Message, happened: set[str]) -> None:
        """The network took a message, and counted these."""
        if not happened.isdisjoint(LOSSES):
            self._builder.lose(message)
        elif "blocked" in happened:
            self._builder.block(message)
        message.is_late = "spiked" in happened

    def blocked(self, message: Message) -> None:
        """A partition stops a message on its way."""
        self._builder.block(message)


class ListeningNetwork(Network):
    """A network as it is, which tells what becomes of each message; its own counts say so."""

    def __init__(self, flights: Flights, departs: Departs, *arguments: Any, **more: Any) -> None:  # As any network.
        super().__init__(*arguments, **more)
        self._flights = flights
        self._departs = departs
        self._departing: tuple[Message, int] | None = None  # With its destination.

    def send(self, source: int, destination: int, payload: Payload) -> None:
        """Send, and see what became of it."""
        before = self._counted()
        message = self._depart(source, destination, payload)
        super().send(source, destination, payload)
        self._flights.settle(message, self._happened(before))

    def send_on_stream(self, source: int, destination: int, payload: Payload) -> None:
        """Send, and see what became of it."""
        before = self._counted()
        message = self._depart(source, destination, payload)
        super().send_on_stream(source, destination, payload)
        self._flights.settle(message, self._happened(before))

    def _depart(self, source: int, destination: int, payload: Payload) -> Message:
        message = self._departs(source, destination, payload)
        self._flights.carried_by(message, destination, payload)
        self._departing = message, destination
        return message

    def _counted(self) -> dict[str, int]:
        return self.counts | (self.links.counts if self.links is not None else {})

    def _happened(self, before: dict[str, int]) -> set[str]:
        return {what for what, count in self._counted().items() if count > before[what]}

    def _deliver(self, source: int, destination: int, payload: Payload) -> None:
        message = self._flights.of(destination, payload)
        if message is not None and (source, destination) in self.blocked:
            self._flights.blocked(message)
        super()._deliver(source, destination, payload)

    def _through_codec(self, payload: Payload) -> Payload:
        decoded = super()._through_codec(payload)
        assert self._departing is not None
        message, destination = self._departing
        self._flights.carried_by(message, destination, decoded)
        return decoded
