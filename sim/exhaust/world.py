"""All states of a small cluster: which there are, and which comes after which.

A state is the state of each replica, what each may still hear, what happened so far, and how many crashes there
were. All of these are found once and numbered; a state is a handful of numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from struct import Struct
from typing import NamedTuple, TypeAlias

import attrs

from sim.exhaust.beginning import FIRST_VIEW, Beginning, begin, views_after_first
from sim.exhaust.canonical import Former, Renaming, fingerprint
from sim.exhaust.chronicle import Chronicle, Judge
from sim.exhaust.machine import Bounds, Machine, Outcome, Standing
from sim.exhaust.moves import Crash, Deliver, Move
from sim.exhaust.post import Post
from sim.exhaust.snapshot import Stage
from sim.exhaust.step import News
from sim.oracles.facts import Violation
from trio_pb.core.config import Options
from trio_pb.core.quorum import quorums_of

__all__ = ["Size", "State", "Step", "World"]


@attrs.frozen(kw_only=True)
class Size:
    """How small a world is."""

    replicas: int = 3
    requests: int = 2  # Each by a client of its own.
    views: int = 2  # The first included.
    crashes: int = 0


State: TypeAlias = "tuple[int, ...]"  # Standing and inbox of each replica in turn, then chronicle and crashes.


class Step(NamedTuple):
    """One move from a state."""

    replica: int
    move: Move
    state: State | None  # None: it breaks a promise.
    violation: Violation | None


class _Edge(NamedTuple):
    """A move of one replica, for all states of the world in which it and its inbox are alike."""

    move: Move
    standing: int
    inbox: int
    posts: tuple[tuple[int, tuple[int, ...]], ...]  # (replica, messages to it)
    news: tuple[News, ...]
    violation: Violation | None
    is_crash: bool


class World:
    """The states of one cluster."""

    machine_type: type[Machine] = Machine

    def __init__(self, size: Size, given: Beginning | None = None) -> None:
        """Of the code as it is now; where it begins may be given, as other code had it."""
        self.size = size
        given = begin(size.replicas, size.requests) if given is None else given
        self.entries = given.entries
        stages = [Stage(Options()) for _ in range(size.replicas)]
        clients = [request.client for request in given.requests]
        sessions = [request.session for request in given.requests]
        # Everybody may take everybody's place: all clients ask for the same.
        self.renamings = [
            Renaming(self.entries, dict(zip(clients, names, strict=True)), dict(zip(sessions, numbers, strict=True)))
            for names, numbers in zip(permutations(clients), permutations(sessions), strict=True)
        ]
        formers = [Former(renaming, size.replicas) for renaming in self.renamings]
        self.post = Post(formers)
        bounds = Bounds(given.requests, views_after_first(size.replicas, size.views - 1), size.crashes > 0)
        self.machines = [
            self.machine_type(number, stage, self.post, self.entries, formers, bounds)
            for number, stage in enumerate(stages)
        ]
        self._judge = Judge(self.entries, quorums_of(size.replicas))
        self._print_numbers: dict[bytes, int] = {}
        self.standings: list[Standing] = []
        self._standing_numbers: dict[bytes, int] = {}
        self._standing_keys: list[tuple[int, ...]] = []
        self.inboxes: list[tuple[int, ...]] = []
        self._inbox_numbers: dict[tuple[int, ...], int] = {}
        self._inbox_keys: list[tuple[int, ...]] = []
        self.chronicles: list[Chronicle] = []
        self._chronicle_numbers: dict[Chronicle, int] = {}
        self._chronicle_keys: list[tuple[int, ...]] = []
        self._edges: dict[tuple[int, int], list[_Edge]] = {}
        self._noted: dict[tuple[int, int, tuple[News, ...]], int] = {}
        self._added: dict[tuple[int, tuple[int, ...], int], int] = {}
        self.packing = Struct(f"<{2 * size.replicas + 2}I")
        self._pack = self.packing.pack
        standings = [
            self._number_standing(machine.begin(snapshot, disk))
            for machine, snapshot, disk in zip(self.machines, given.snapshots, given.disks, strict=True)
        ]

        log = given.log
        logs = tuple([(FIRST_VIEW, op, checksum) for op, checksum in enumerate(log)])
        chronicle = Chronicle(log, logs, ((FIRST_VIEW, FIRST_VIEW, 1),))
        nothing = self._number_inbox(())
        self.initial: State = (*[it for number in standings for it in (number, nothing)], self._number(chronicle), 0)

    # --- Moves ------------------------------------------------------------------------------------

    def steps(self, state: State) -> Iterator[Step]:
        """Everything that may happen next."""
        crashes = state[-1]
        for replica in range(self.size.replicas):
            place = 2 * replica
            key = state[place], state[place + 1]
            edges = self._edges.get(key) or self._find_edges(*key)
            for edge in edges:
                if edge.is_crash and crashes == self.size.crashes:
                    continue
                yield self._step(state, replica, edge)

    def _step(self, state: State, replica: int, edge: _Edge) -> Step:
        if edge.violation is not None:
            return Step(replica, edge.move, None, edge.violation)
        after = list(state)
        after[2 * replica], after[2 * replica + 1] = edge.standing, edge.inbox
        for destination, messages in edge.posts:
            place = 2 * destination + 1
            key = after[place], messages, after[place - 1]
            inbox = self._added.get(key)
            after[place] = self._add(*key) if inbox is None else inbox
        after[-1] += edge.is_crash
        if edge.news:
            try:
                after[-2] = self._note(after, replica, edge.news)
            except Violation as violation:
                return Step(replica, edge.move, None, violation)
        return Step(replica, edge.move, tuple(after), None)

    def _note(self, after: list[int], replica: int, news: tuple[News, ...]) -> int:
        before = after[-2]
        known = self._noted.get((before, replica, news))
        if known is not None:
            return known
        disks = [self.standings[after[2 * number]].disk for number in range(self.size.replicas)]
        chronicle = self._judge.judge(self.chronicles[before], replica, news, disks)
        number = self._number(chronicle)
        if chronicle.committed_op == self.chronicles[before].committed_op:
            # Of what newly commits the disks are looked at each time.
            self._noted[before, replica, news] = number
        return number

    def _find_edges(self, standing_number: int, inbox: int) -> list[_Edge]:
        standing = self.standings[standing_number]
        machine = self.machines[standing.replica]
        moves: list[Move] = list(standing.moves)
        moves += [Deliver(it) for it in self.inboxes[inbox] if standing.hearing.may_act_on(self.post.messages[it])]
        edges: list[_Edge] = []
        for move in moves:
            outcome = machine.outcome(standing, move)
            if outcome is not None:
                edges.append(self._edge(move, inbox, outcome))
        self._edges[standing_number, inbox] = edges
        return edges

    def _edge(self, move: Move, inbox: int, outcome: Outcome) -> _Edge:
        posts: dict[int, list[int]] = {}
        for number in outcome.sent:
            posts.setdefault(self.post.messages[number].destination, []).append(number)
        standing = self._number_standing(outcome.target)
        return _Edge(
            move,
            standing,
            self._add(inbox, (), standing),
            tuple([(destination, tuple(sorted(numbers))) for destination, numbers in sorted(posts.items())]),
            outcome.news,
            outcome.violation,
            isinstance(move, Crash),
        )

    def _add(self, inbox: int, messages: tuple[int, ...], standing: int) -> int:
        """An inbox with more messages in it, without those that nobody can hear any more."""
        hearing, posted = self.standings[standing].hearing, self.post.messages
        kept = {it for it in (*self.inboxes[inbox], *messages) if not hearing.is_spent(posted[it])}
        number = self._added[inbox, messages, standing] = self._number_inbox(tuple(sorted(kept)))
        return number

    # --- Numbers ------------------------------------------------------------------------------------

    def key(self, state: State) -> bytes:
        """Equal for states that differ at most in who is called what."""
        return min([self._key(state, renaming) for renaming in range(len(self.renamings))])

    def _key(self, state: State, renaming: int) -> bytes:
        standings, inboxes = self._standing_keys, self._inbox_keys
        names = [
            standings[it][renaming] if place % 2 == 0 else inboxes[it][renaming] for place, it in enumerate(state[:-2])
        ]
        return self._pack(*names, self._chronicle_keys[state[-2]][renaming], state[-1])

    def _name(self, prints: tuple[bytes, ...]) -> tuple[int, ...]:
        numbers = self._print_numbers
        return tuple([numbers.setdefault(it, len(numbers)) for it in prints])

    def _number_standing(self, standing: Standing) -> int:
        number = self._standing_numbers.get(standing.prints[0])
        if number is None:
            number = self._standing_numbers[standing.prints[0]] = len(self.standings)
            self.standings.append(standing)
            self._standing_keys.append(self._name(standing.prints))
        return number

    def _number_inbox(self, messages: tuple[int, ...]) -> int:
        number = self._inbox_numbers.get(messages)
        if number is None:
            number = self._inbox_numbers[messages] = len(self.inboxes)
            self.inboxes.append(messages)
            posted = self.post.messages
            prints = [
                fingerprint(tuple(sorted([posted[it].prints[renaming] for it in messages])))
                for renaming in range(len(self.renamings))
            ]
            self._inbox_keys.append(self._name(tuple(prints)))
        return number

    def _number(self, chronicle: Chronicle) -> int:
        number = self._chronicle_numbers.get(chronicle)
        if number is None:
            number = self._chronicle_numbers[chronicle] = len(self.chronicles)
            self.chronicles.append(chronicle)
            self._chronicle_keys.append(self._name(tuple([chronicle.print(it) for it in self.renamings])))
        return number
