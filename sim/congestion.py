"""Links that clog and connections that are reset: nothing is cut for good, but much comes late, at once, or half."""

from __future__ import annotations

from sim.choices import Key
from sim.fault_family import FaultFamily, Planned
from sim.links import Link

__all__ = ["CONGESTION", "Congestion"]

MS = 1000  # Microseconds.
CONGESTION = ("clog", "swizzle", "reset")  # As counted.


class Congestion(FaultFamily):
    """Clogs and resets the links of a run as its plan says."""

    def plan(self) -> Planned:
        """What is to happen: name, how often, and how."""
        plan = self._cluster.shape.faults
        return (
            ("clog", plan.clogs, self._clog),
            ("swizzle", plan.swizzles, self._swizzle),
            ("reset", plan.resets, self._reset),
        )

    def _clog(self, index: int) -> None:
        """Nothing arrives from one replica, at one, or on one link; later everything does."""
        if self._is_over():
            return
        key: Key = ("clog", index)
        victim = self._victim((*key, "who")).number
        others = [node for node in self._cluster.nodes if node != victim]
        what = self._choices.number((*key, "what"), 0, 2, 0)
        if what == 2:
            others = [others[self._choices.number((*key, "other"), 0, 255, 0) % len(others)]]
        links = {(victim, other) if what == 0 else (other, victim) for other in others}
        self._note("clog")
        duration = self._choices.latency((*key, "long"), 20 * MS, self._cluster.shape.faults.clog_mean)
        self._cluster.scheduler.after(duration, self._free, self._clogged(links))

    def _swizzle(self, index: int) -> None:
        """Some replicas clog one after the other, and come free in another order."""
        if self._is_over():
            return
        key: Key = ("swizzle", index)
        numbers = [replica.number for replica in self._cluster.replicas]
        some = self._choices.number((*key, "who"), 1, (1 << len(numbers)) - 1, 1)
        chosen = [number for number in numbers if some >> number & 1]
        mean = self._cluster.shape.faults.clog_mean
        began = self._cluster.scheduler.now
        for number in chosen:
            begins = self._choices.latency((*key, "begins", number), 0, mean // 4)
            ends = begins + self._choices.latency((*key, "ends", number), 20 * MS, mean)
            self._cluster.scheduler.at(began + begins, self._clog_all, number, began + ends)
        self._note("swizzle")

    def _clog_all(self, number: int, until: int) -> None:
        if not self._is_over():
            around = {(number, other) for other in self._cluster.nodes if other != number}
            self._cluster.scheduler.at(until, self._free, self._clogged(around | {(to, of) for of, to in around}))

    def _reset(self, index: int) -> None:
        """The connections between one replica and another, or a client, end; what is on its way is lost."""
        if self._is_over():
            return
        key: Key = ("reset", index)
        victim = self._victim((*key, "who"))
        nodes = [node for node in self._cluster.nodes if node != victim.number]
        other = nodes[self._choices.number((*key, "other"), 0, 255, 0) % len(nodes)]
        self._cluster.reset(victim.number, other)
        self._note("reset")

    # --- Pieces -----------------------------------------------------------------------------------

    def _clogged(self, links: set[Link]) -> set[Link]:
        found = self._cluster.network.links
        assert found is not None, "a run with clogs has links"
        return found.clog(links)

    def _free(self, links: set[Link]) -> None:
        found = self._cluster.network.links
        assert found is not None, "a run with clogs has links"
        found.free(links)
