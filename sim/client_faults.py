"""Clients that die, come back, or talk nonsense."""

from __future__ import annotations

from collections.abc import Callable

from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.raw_client import OddClient, ReturningClient

__all__ = ["CLIENT_FAULTS", "ClientFaults"]

# As counted.
CLIENT_FAULTS = ("client crash", "client returns", "odd requests", "garbled bytes", "messages late")


class ClientFaults:
    """Makes the clients of a run fail as its plan says."""

    def __init__(self, cluster: SimCluster, note: Callable[[str], None], is_over: Callable[[], bool]) -> None:
        """`note(kind)` takes what happened; nothing happens once `is_over()`."""
        self._cluster = cluster
        self._choices: Choices = cluster.choices
        self._note = note
        self._is_over = is_over
        self._returning: ReturningClient | None = None  # Both are made when first needed.
        self._odd: OddClient | None = None
        self._worker_count = len(cluster.clients)

    def plan(self) -> tuple[tuple[str, int, Callable[[int], None]], ...]:
        """What is to happen: name, how often, and how."""
        plan = self._cluster.shape.faults
        return (
            ("client crash", plan.client_crashes, self._crash),
            ("client returns", plan.client_returns, self._return),
            ("odd requests", plan.odd_requests, self._babble),
        )

    def heal(self) -> None:
        """Hang up: nobody waits for what these clients asked."""
        for client in (self._returning, self._odd):
            if client is not None:
                client.hang_up()

    def _crash(self, index: int) -> None:
        """A client's process dies, with all that it waited for, and another one goes on with its work."""
        if not self._is_over():
            clients = self._cluster.clients[: self._worker_count]
            chosen = self._choices.number(("client crash", index, "who"), 0, len(clients) - 1, 0)
            self._note("client crash")
            clients[chosen].crash()

    def _return(self, index: int) -> None:
        """A client that knows its session comes back."""
        if not self._is_over():
            if self._returning is None:
                self._returning = self._cluster.add_client_of(ReturningClient)
            self._note("client returns")
            self._returning.come_back(self._where(("client returns", index)))

    def _babble(self, index: int) -> None:
        """Requests that make no sense, and bytes that are none."""
        if self._is_over():
            return
        if self._odd is None:
            self._odd = self._cluster.add_client_of(OddClient)
        key: Key = ("odd requests", index)
        self._note("odd requests")
        self._odd.babble(key, self._where(key))
        if self._odd.garble(key):
            self._note("garbled bytes")

    def _where(self, key: Key) -> int:
        """Mostly the primary: who does not lead refuses at once."""
        replicas = self._cluster.replicas
        chosen = self._choices.number((*key, "to"), 0, 2 * len(replicas) - 1, 2 * len(replicas) - 1)
        leading = [replica.number for replica in replicas if replica.is_primary]
        return leading[0] if chosen >= len(replicas) and leading else chosen % len(replicas)
