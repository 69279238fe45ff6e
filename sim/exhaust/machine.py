"""One replica and its disk: each of their states once, and each of their moves computed once.

A cluster moves one replica at a time, so the millions of states of a world are made of some thousands of states of
each replica. The shipped core is asked what a replica does in each of those; the world only puts them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import attrs

from sim.exhaust.canonical import Entries, Form, Former, fingerprint
from sim.exhaust.disk import Disk
from sim.exhaust.moves import Append, Ask, Crash, Deliver, Heartbeat, Image, Move, Wished
from sim.exhaust.post import Hearing, Post, hearing_of
from sim.exhaust.snapshot import Snapshot, Stage
from sim.exhaust.step import Acting, News
from sim.oracles.facts import Violation
from trio_pb.core.messages import Request
from trio_pb.core.ports import FromClient, FromPeer

__all__ = ["Bounds", "Machine", "Outcome", "Standing"]

CONNECTION = 1  # Every client's: an answer names whom it is for.
_IN_FORM = (
    *("state", "persistence", "peers", "repair", "execution", "admission", "normal", "wishes", "view_change"),
    "reads",
)
_SELECTION = ("_stated", "_selected", "_is_selection_stale", "_is_unsaid")


@attrs.define(eq=False)
class Standing:
    """One state of one replica with its disk."""

    replica: int
    snapshot: Snapshot
    disk: Disk
    told_commit: int  # As primary: how far it told that everything is committed.
    prints: tuple[bytes, ...]  # Fingerprint under each renaming.
    view: int
    hearing: Hearing
    moves: tuple[Move, ...]  # Those that need no message.
    outcomes: dict[Move, Outcome | None] = attrs.field(factory=dict["Move", "Outcome | None"])


class Outcome(NamedTuple):
    """What comes of a move."""

    target: Standing
    sent: tuple[int, ...]  # Messages, by number.
    news: tuple[News, ...]
    violation: Violation | None


class Bounds(NamedTuple):
    """What a replica may be asked to do at most."""

    requests: tuple[Request, ...]
    views: tuple[int, ...]  # That may be entered.
    has_crashes: bool


class Machine:
    """The states of one replica, found on demand."""

    def __init__(
        self, replica: int, stage: Stage, post: Post, entries: Entries, formers: Sequence[Former], bounds: Bounds
    ) -> None:
        self.replica = replica
        self._stage = stage
        self._post = post
        self._entries = entries
        self._formers = formers
        self._bounds = bounds
        self._standings: dict[bytes, Standing] = {}
        self.steps = 0  # Moves that the core was asked about.

    @property
    def count(self) -> int:
        """States found so far."""
        return len(self._standings)

    def begin(self, snapshot: Snapshot, disk: Disk) -> Standing:
        """The state in which the exploration begins."""
        self._stage.put(snapshot)
        return self._standing(self._acting(disk, self._stage.replica.state.commit_max))

    def outcome(self, standing: Standing, move: Move) -> Outcome | None:
        """What comes of a move; None: nothing, or something beyond the bounds."""
        try:
            return standing.outcomes[move]
        except KeyError:
            found = standing.outcomes[move] = self._compute(standing, move)
            return found

    def act(self, standing: Standing, move: Move) -> Acting:
        """Make a move, on the stage.

        Raises:
            Violation: it breaks a promise.
        """
        self._stage.put(standing.snapshot)
        acting = self._acting(standing.disk, standing.told_commit)
        match move:
            case Deliver():
                post = self._post.messages[move.message]
                acting.take(FromPeer(post.envelope, post.message))
            case Ask():
                acting.take(FromClient(CONNECTION, self._bounds.requests[move.client]))
            case Append():
                acting.append_done()
            case Image():
                acting.image_done()
            case Heartbeat():
                acting.heartbeat()
            case Wished():
                acting.wished(move.view)
            case Crash():
                self._stage.clear()
                acting = self._acting(standing.disk.crashed(move.kept), 0)
                acting.start()
        return acting

    def _acting(self, disk: Disk, told_commit: int) -> Acting:
        return Acting(self.replica, self._stage.replica, disk, self._entries, told_commit)

    def _compute(self, standing: Standing, move: Move) -> Outcome | None:
        self.steps += 1
        try:
            acting = self.act(standing, move)
        except Violation as violation:
            return Outcome(standing, (), (), violation)
        except AssertionError as error:
            return Outcome(standing, (), (), Violation("assert", f"R{self.replica} stops: {error}"))
        sent = [
            self._post.send(self.replica, destination, send.envelope, send.message)
            for send in acting.sent
            for destination in send.replicas
        ]
        reached = self._standing(acting)
        numbers = tuple(dict.fromkeys(number for number in sent if number is not None))
        news = tuple(dict.fromkeys(acting.news))
        return None if reached is standing and not numbers else Outcome(reached, numbers, news, None)

    # --- States -----------------------------------------------------------------------------------

    def _standing(self, acting: Acting) -> Standing:
        replica = self._stage.replica
        plain = self._print(0, acting)
        known = self._standings.get(plain)
        if known is None:
            others = [self._print(renaming, acting) for renaming in range(1, len(self._formers))]
            known = self._standings[plain] = Standing(
                replica=self.replica,
                disk=acting.disk,
                told_commit=acting.told_commit,
                prints=(plain, *others),
                view=replica.state.view,
                hearing=hearing_of(replica, acting.disk),
                moves=tuple(self._moves(acting)),
                snapshot=self._stage.take(),
            )
        return known

    def _print(self, renaming: int, acting: Acting) -> bytes:
        replica, former = self._stage.replica, self._formers[renaming]
        former.ranks = self._ranks(acting.disk)
        rooms = vars(replica)
        forms: list[Form] = [former.form(rooms[name]) for name in _IN_FORM]
        installing = vars(replica.view_change)["_installing"]
        # What a role begins with, it begins with anew.
        if replica.state.is_primary:
            forms += [former.form(replica.normal.acked_ops), acting.told_commit]
        elif replica.state.is_backup:
            forms.append(former.form(vars(replica.normal)["_acked_sent"]))
        elif installing is None or installing.view < replica.state.view:  # A selection is made once.
            forms += [former.form(vars(replica.view_change)[name]) for name in _SELECTION]
        return fingerprint((self.replica, *forms, len(replica.reads), former.form(acting.disk)))

    def _ranks(self, disk: Disk) -> dict[int, int]:
        """Proof numbers and what they are compared with, counted through: only their order matters."""
        replica = self._stage.replica
        kept = vars(replica.persistence)
        images = [kept[name] for name in ("image", "durable", "_image_in_flight")]
        images += [disk.superblock, disk.image.image if disk.image is not None else None]
        installing = vars(replica.view_change)["_installing"]
        proofs = [disk.proof, *[it.proof for it in disk.appends], *[it.proof for it in kept["_appends"]]]
        numbers = {image.install.proof_base for image in images if image is not None}
        numbers.update(proof.sequence for proof in proofs if proof is not None)
        # The next proof of this boot comes after all others, but perhaps not after what voids proofs.
        numbers.add((replica.state.boot << 32) + kept["_proof_counter"])
        if installing is not None:
            numbers.add(installing.install.proof_base)
        return {number: rank for rank, number in enumerate(sorted(numbers))}

    def _moves(self, acting: Acting) -> Iterator[Move]:
        """What may happen next without a message."""
        replica, disk = self._stage.replica, acting.disk
        state = replica.state
        if disk.appends:
            yield Append()
        if disk.image is not None:
            yield Image()
        if state.is_leading:
            yield from [Ask(client) for client in range(len(self._bounds.requests))]
            if state.commit_max > acting.told_commit:
                yield Heartbeat()
        yield from [Wished(view) for view in self._bounds.views if view > state.view]
        if self._bounds.has_crashes:
            yield from [Crash(kept) for kept in disk.crashes()]
