"""Notices what nobody tells of: cut and mended networks, paused replicas, disks in trouble."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from sim.cluster import SimCluster
from sim.explain.builder import StoryBuilder
from sim.explain.lanes import Lanes
from sim.explain.model import Kind
from sim.explain.words import listed
from sim.links import Link
from sim.network import CLIENT_NODES
from sim.replica import SimReplica

__all__ = ["Surroundings", "links_in_words"]


class _Condition(NamedTuple):
    """Something that may be the matter with a replica."""

    holds: Callable[[SimReplica], bool]
    begins: tuple[Kind, str]  # Continues the replica's name.
    ends: tuple[Kind, str]


def _is_paused(replica: SimReplica) -> bool:
    return replica.is_paused


def _is_full(replica: SimReplica) -> bool:
    return replica.disk.is_full


def _is_slow(replica: SimReplica) -> bool:
    return replica.slowness > 1


def _takes_turns_late(replica: SimReplica) -> bool:
    return replica.turn_delay > replica.world.shape.turn_delay


def _is_wiped(replica: SimReplica) -> bool:
    return replica.is_wiped


def _is_stalled(replica: SimReplica) -> bool:
    return replica.stalled_until > replica.world.scheduler.now


def _is_flipped(replica: SimReplica) -> bool:
    return replica.world.watch.facts.disks[replica.number].is_flipped


CONDITIONS = (
    _Condition(
        _is_paused,
        (Kind.PAUSE, " stops executing; the world goes on"),
        (Kind.RESUME, " goes on, and hears all that waited"),
    ),
    _Condition(_is_full, (Kind.FAULT, "'s disk is full"), (Kind.HEAL, "'s disk has room again")),
    _Condition(_is_stalled, (Kind.FAULT, "'s disk does not answer"), (Kind.HEAL, "'s disk answers again")),
    _Condition(
        _is_slow,
        (Kind.FAULT, "'s disk becomes slow"),
        (Kind.HEAL, "'s disk is as quick as before"),
    ),
    _Condition(
        _takes_turns_late,
        (Kind.FAULT, " becomes slow in everything that it does"),
        (Kind.HEAL, " is as quick as before"),
    ),
    _Condition(
        _is_wiped,
        (Kind.FAULT, "'s disk is lost, and formatted anew under the old id: it has no vote any more"),
        (Kind.HEAL, " has a disk of its own again"),
    ),
    _Condition(
        _is_flipped,
        (Kind.FAULT, "'s memory goes wrong: its state is not what it executed"),
        (Kind.HEAL, " has a state of before its memory went wrong, or one of another"),
    ),
)


class Surroundings:
    """What was the matter at the last look."""

    def __init__(self, builder: StoryBuilder, lanes: Lanes, cluster: SimCluster) -> None:
        self._builder = builder
        self._lanes = lanes
        self._cluster = cluster
        self._blocked: frozenset[Link] = frozenset()
        self._clogged: frozenset[Link] = frozenset()
        self._holding: set[tuple[int, int]] = set()  # (replica, index of a condition).

    def look(self) -> None:
        """Note what changed since the last look."""
        network = self._cluster.network
        blocked = frozenset(network.blocked)
        if blocked != self._blocked:
            self._note_cuts(blocked)
        clogged = frozenset(network.links.clogged) if network.links is not None else self._clogged
        if clogged != self._clogged:
            self._note_clogs(clogged)
        for replica in self._cluster.replicas:
            for index, condition in enumerate(CONDITIONS):
                key = (replica.number, index)
                holds = condition.holds(replica)
                if holds == (key in self._holding):
                    continue
                self._holding ^= {key}
                kind, text = condition.begins if holds else condition.ends
                if replica.is_up or kind is not Kind.RESUME:  # Whoever died does not go on.
                    self._builder.note(self._lanes.of(replica.number), kind, f"{replica.name}{text}")

    def _note_cuts(self, blocked: frozenset[Link]) -> None:
        cut, mended = blocked - self._blocked, self._blocked - blocked
        self._blocked = blocked
        if cut:
            links = self._in_words(cut, "{} is cut off from {}", "{} hears nothing from {}")
            self._note(Kind.FAULT, f"the network is cut: {links}")
        if mended:
            links = self._in_words(mended, "{} is connected again with {}", "{} hears {} again")
            rest = "" if blocked else "; nothing is cut any more"
            self._note(Kind.HEAL, f"the network is mended: {links}{rest}")

    def _note_clogs(self, clogged: frozenset[Link]) -> None:
        stuck, freed = clogged - self._clogged, self._clogged - clogged
        self._clogged = clogged
        if stuck:
            links = self._in_words(stuck, "between {} and {}", "to {} from {}")
            self._note(Kind.FAULT, f"links clog, and messages wait: {links}")
        if freed:
            links = self._in_words(freed, "between {} and {}", "to {} from {}")
            self._note(Kind.HEAL, f"links are free again, and what waited arrives: {links}")

    def _in_words(self, links: Collection[Link], both_ways: str, one_way: str) -> str:
        return links_in_words(links, self._lanes.replicas, self._lanes.name, both_ways, one_way)

    def _note(self, kind: Kind, text: str) -> None:
        self._builder.note(self._builder.world, kind, text)


def links_in_words(
    links: Collection[Link],
    replicas: Collection[int],
    name: Callable[[int], str],
    both_ways: str,
    one_way: str,
) -> str:
    """Name directed links in as few words as they need; the words have places for two names."""
    left = set(links)
    return "; ".join([*_cut_off(left, replicas, name, both_ways), *_pairs(left, name, both_ways, one_way)])


def _cut_off(left: set[Link], replicas: Collection[int], name: Callable[[int], str], both_ways: str) -> Iterator[str]:
    """Those for whom it is about all other replicas; takes their links out of `left`."""
    for node in sorted(replicas):
        others = set(replicas) - {node}
        both = {(node, other) for other in others} | {(other, node) for other in others}
        if len(others) > 1 and both <= left:
            left -= both
            yield both_ways.format(name(node), "all other replicas")


def _pairs(left: set[Link], name: Callable[[int], str], both_ways: str, one_way: str) -> Iterator[str]:
    """The rest, by receiver; a client is the one that hears or is heard, never the subject of both ways."""
    mutual = {link for link in left if link[::-1] in left}
    for node in sorted({min(link) for link in mutual}):
        peers = sorted(other for other in {high for low, high in mutual if low == node} if other > node)
        shown = [peer for peer in peers if peer < CLIENT_NODES]
        names = [name(peer) for peer in shown]
        clients = len(peers) - len(shown)
        if clients:
            names += [name(peer) for peer in peers if peer >= CLIENT_NODES] if clients < 3 else [f"{clients} clients"]
        if names:
            yield both_ways.format(name(node), listed(names))
    for node in sorted({destination for _, destination in left - mutual}):
        sources = sorted(source for source, destination in left - mutual if destination == node)
        yield one_way.format(name(node), listed(name(source) for source in sources))
