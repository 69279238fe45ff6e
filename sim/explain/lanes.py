"""Whose lane is whose: nodes of the network, and the identities that clients go by."""

from __future__ import annotations

from sim.explain.builder import StoryBuilder
from sim.explain.model import LaneKind
from sim.network import CLIENT_NODES
from trio_pb.core.messages import Read, Request

__all__ = ["Lanes"]


class Lanes:
    """The lanes of a cluster; those of clients are added when they are first heard of."""

    def __init__(self, builder: StoryBuilder) -> None:
        self._builder = builder
        self._lanes: dict[int, int] = {}  # Node -> lane.
        self._names: dict[bytes, str] = {}  # Client id -> name of its lane, with the session if not its first.
        self._sessions: dict[int, int] = {}  # Lane -> client ids so far.

    def add_replica(self, number: int) -> None:
        """One more replica."""
        self._lanes[number] = self._builder.add_lane(f"R{number}")

    @property
    def replicas(self) -> list[int]:
        """Their numbers."""
        return sorted(node for node in self._lanes if node < CLIENT_NODES)

    def of(self, node: int) -> int:
        """The lane of a node."""
        if node not in self._lanes:
            self._lanes[node] = self._builder.add_lane(f"C{node - CLIENT_NODES}", LaneKind.CLIENT)
        return self._lanes[node]

    def of_client(self, name: str) -> int:
        """The lane of C0, C1, ..."""
        return self.of(CLIENT_NODES + int(name[1:]))

    def name(self, node: int) -> str:
        """What a node is called."""
        return self._builder.lanes[self.of(node)].name

    def learn_client(self, message: Request | Read, lane: int) -> None:
        """Whose identity is it? A client has one for its reads, and one for each of its sessions."""
        if message.client not in self._names:
            name = self._builder.lanes[lane].name
            if isinstance(message, Request):
                count = self._sessions[lane] = self._sessions.get(lane, 0) + 1
                name = name if count == 1 else f"{name}/{count}"
            self._names[message.client] = name

    def request(self, client: bytes, session: int, number: int) -> str:
        """Name a request; session -1 is a read's, number 0 opens a session."""
        name = self._names.get(client, f"client {client.hex()[:6]}")
        if session < 0:
            return f"{name}'s read {number}"
        return f"{name}'s request {number}" if number else f"{name}'s registration"
