"""Cuts in the network, of every shape: whom they part, for how long, and that they are mended."""

from __future__ import annotations

from sim.choices import Key
from sim.fault_family import FaultFamily, Planned
from sim.links import Link

__all__ = ["PARTITIONS", "Partitions"]

MS = 1000  # Microseconds.
PARTITIONS = ("partition", "bridge", "ring", "primary cut off", "lone client", "flapping")  # As counted.
FLAPS = 6
SPECIAL = 0.4  # Of the partitions.


class Partitions(FaultFamily):
    """Cuts the network of a run as its plan says."""

    def plan(self) -> Planned:
        """What is to happen: name, how often, and how."""
        plan = self._cluster.shape.faults
        return (("partition", plan.partitions, self._partition),)

    def isolate(self) -> bool:
        """Cut off or deafen one replica until the end; whether that takes the primary from the others."""
        key: Key = ("isolation", 0)
        replica = self._victim((*key, "who"))
        others = [other.number for other in self._cluster.replicas if other is not replica]
        # All it sends, all it should hear, or both.
        kind = self._choices.number((*key, "kind"), 0, 2, 0)
        if kind != 1:
            self._cut([replica.number], others, one_way=kind == 2)
        if kind == 1:
            self._cut(others, [replica.number], one_way=True)
        self._note("isolation")
        return replica.is_primary

    def _partition(self, index: int) -> None:
        """Cut the network in one of several shapes; mend it later."""
        if self._is_over():
            return
        key: Key = ("partition", index)
        if self._choices.flag((*key, "special"), SPECIAL):
            self._special(key)
            return
        made = self._cut_in_shape(key)
        self._note("partition")
        self._cluster.scheduler.after(self._duration(key), self._mend, made)

    def _special(self, key: Key) -> None:
        """Cut the network as topologies do that are known to have hurt others."""
        kind = self._choices.number((*key, "kind"), 0, 4, 0)
        links = (self._bridge, self._ring, self._primary_alone, self._client_alone, self._primary_alone)[kind](key)
        if not links:
            return  # There are too few of them for that, or nobody leads.
        self._note(PARTITIONS[1 + kind])
        if kind < 4:
            self._cluster.scheduler.after(self._duration(key), self._mend, self._block(links))
        else:
            self._flap(key, links, FLAPS)

    def _bridge(self, key: Key) -> set[Link]:
        """Two sides that meet in one node: with an odd number of nodes each of them is a majority with it (T-9)."""
        hub = self._victim((*key, "who")).number
        rest = [replica.number for replica in self._cluster.replicas if replica.number != hub]
        turn = self._choices.number((*key, "turn"), 0, max(len(rest) - 1, 0), 0)
        rest = rest[turn:] + rest[:turn]
        return _between(rest[: len(rest) // 2], rest[len(rest) // 2 :])

    def _ring(self, _: Key) -> set[Link]:
        """Everybody hears two neighbours only: nobody reaches a majority where there are more than five."""
        numbers = [replica.number for replica in self._cluster.replicas]
        count = len(numbers)
        far = [(one, other) for one in numbers for other in numbers if (one - other) % count not in (0, 1, count - 1)]
        return set(far)

    def _primary_alone(self, key: Key) -> set[Link]:
        """Whoever leads, and nobody else, is cut off: from the others, or from everybody."""
        leading = [replica for replica in self._cluster.replicas if replica.is_primary]
        if not leading:
            return set()
        primary = max(leading, key=lambda replica: replica.view).number
        with_clients = self._choices.flag((*key, "clients too"), 0.5)
        others = self._cluster.nodes if with_clients else [replica.number for replica in self._cluster.replicas]
        return _between([primary], [other for other in others if other != primary])

    def _client_alone(self, key: Key) -> set[Link]:
        """One client reaches nobody."""
        clients = self._cluster.clients
        client = clients[self._choices.number((*key, "client"), 0, len(clients) - 1, 0)]
        return _between([client.node], [replica.number for replica in self._cluster.replicas])

    def _flap(self, key: Key, links: set[Link], left: int) -> None:
        """The cable is in and out."""
        if self._is_over() or left == 0:
            return
        made = self._block(links)
        out = self._choices.latency((*key, "out", left), 10 * MS, self._cluster.shape.faults.partition_mean // 4)
        back = out + self._choices.latency((*key, "in", left), 10 * MS, self._cluster.shape.faults.partition_mean // 4)
        self._cluster.scheduler.after(out, self._mend, made)
        self._cluster.scheduler.after(back, self._flap, key, links, left - 1)

    def _duration(self, key: Key) -> int:
        return self._choices.latency((*key, "long"), 50 * MS, self._cluster.shape.faults.partition_mean)

    def _cut_in_shape(self, key: Key) -> set[Link]:
        numbers = [replica.number for replica in self._cluster.replicas]
        victim = self._victim((*key, "who")).number
        others = [number for number in numbers if number != victim]
        shape = self._choices.number((*key, "shape"), 0, 6, 0)
        one_way = self._choices.flag((*key, "one way"), 0.3)
        if shape == 0:  # One against the rest.
            return self._cut([victim], others, one_way=one_way)
        if shape == 1:  # The same, other direction if one way.
            return self._cut(others, [victim], one_way=one_way)
        if shape == 2:  # Two sides.
            sides = self._choices.number((*key, "sides"), 0, (1 << len(numbers)) - 1, 1)
            left = [number for number in numbers if sides >> number & 1]
            return self._cut(left, [number for number in numbers if number not in left], one_way=one_way)
        if shape == 3:  # Only through a hub: no two others hear each other.
            return self._cut(others, others)
        if shape == 4:  # One link.
            return self._cut([victim], others[:1], one_way=one_way)
        if shape == 5:  # Any directed links.
            every = [(source, to) for source in numbers for to in numbers if source != to]
            links = self._choices.number((*key, "links"), 0, (1 << len(every)) - 1, 1)
            return self._block({link for position, link in enumerate(every) if links >> position & 1})
        # Clients cannot reach one replica.
        return self._cut([client.node for client in self._cluster.clients], [victim], one_way=one_way)

    # --- Pieces -----------------------------------------------------------------------------------

    def _cut(self, sources: list[int], destinations: list[int], *, one_way: bool = False) -> set[Link]:
        return self._block(_between(sources, destinations, one_way=one_way))

    def _block(self, links: set[Link]) -> set[Link]:
        """Cut links; those that were not cut before are this cut's own, to be mended with it."""
        blocked = self._cluster.network.blocked
        made = links - blocked
        blocked |= made
        return made

    def _mend(self, links: set[Link]) -> None:
        if not self._is_over():  # Else all is mended, and what is cut now is none of ours.
            self._cluster.network.blocked.difference_update(links)


def _between(sources: list[int], destinations: list[int], *, one_way: bool = False) -> set[Link]:
    links = {(source, to) for source in sources for to in destinations if source != to}
    return links if one_way else links | {(to, source) for source, to in links}
