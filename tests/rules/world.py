"""Three cores in which everything waits until a rule says that it happens: the world of the rule machine.

Messages and disk jobs lie in a bag and are taken out in any order; time passes at one replica at a time. All oracles
of the simulator look on at every step and every output. Damage keeps to the fault model (PROTOCOL 1 and 7.4): of every
entry that anybody acknowledged, some other disk keeps a copy that its replica vouches for.
"""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import TypeAlias

import attrs

from sim.cluster import all_oracles
from sim.exhaust.beginning import CLUSTER, fresh_disk
from sim.oracles.facts import Facts, violate
from sim.oracles.reference import ExecutedOnce
from sim.oracles.waiting import waits_for
from sim.oracles.watch import Watch
from sim.shape import Shape
from tests.rules.people import Person
from tests.rules.platter import Left
from tests.rules.post import Letter, Mail, Post, Question, Shown
from tests.rules.seat import Seat
from trio_pb.core.config import Limits, Options, Timeouts
from trio_pb.core.messages import Read, Reject, Reply, Request, Status
from trio_pb.core.ports import FromClient, FromPeer, Send, Transfer, WalRead
from trio_pb.core.prepare import Prepare

__all__ = ["Job", "Record", "World"]

REPLICAS, PEOPLE = 3, 3
# Everything is small, so that a few dozen steps meet checkpoints, evictions, full windows and full pipelines.
LIMITS = Limits(
    pipeline_max=4,
    pipeline_eager_max=2,
    body_cache_ops=4,
    session_window=2,
    sessions_max=2,
    checkpoint_interval_ops=4,
    wal_ops=12,
    probe_interval_ops=2,
)
TIMEOUTS = Timeouts(
    heartbeat_ticks=1,
    suspect_ticks=8,
    suspect_jitter_ticks=4,
    check_quorum_ticks=6,
    ping_ticks=4,
    alive_ticks=20,
    wish_ticks=4,
    do_view_change_ticks=8,
    view_change_ticks=30,
    scrub_ticks=20,
    unfit_ticks=100,
)
SETTLED_TICKS_MAX = 3000  # INV-33.
ASK_AGAIN_TICKS = 20
EVENTS_MAX = 20_000  # In one tick, and never nearly so many.


@attrs.frozen(repr=False)
class Job(Shown):
    """Something that a disk is about to complete."""

    replica: int
    kind: str
    what: str  # For people.
    read: WalRead | None = None

    def __repr__(self) -> str:
        return f"<{self.kind} of R{self.replica}: {self.what}>"


@attrs.frozen(repr=False)
class Record(Shown):
    """A record on a disk."""

    replica: int
    prepare: Prepare

    def __repr__(self) -> str:
        return f"<op {self.prepare.op} of view {self.prepare.view} on R{self.replica}>"


Event: TypeAlias = "Mail | Job"


class World:
    """The cluster, its clients, and everything that is under way."""

    def __init__(self) -> None:
        shape = Shape(replicas=REPLICAS, clients=PEOPLE, limits=LIMITS, timeouts=TIMEOUTS)
        options = Options(limits=LIMITS, timeouts=TIMEOUTS)
        disks = [fresh_disk(number, REPLICAS) for number in range(REPLICAS)]
        self.facts = Facts(CLUSTER, [disk.superblock for disk in disks])
        self.executed = ExecutedOnce(self.facts, LIMITS.sessions_max)
        self.watch = Watch(self.facts, all_oracles(self.facts, shape, self.executed))
        self.post = Post()
        self.people = [Person(number, LIMITS.session_window) for number in range(PEOPLE)]
        self.seats = [Seat(number, disk, options, self._send, self._answer) for number, disk in enumerate(disks)]
        self.events: list[tuple[str, object]] = []  # What happened, for people: who it befell or did it, and what.
        for seat in self.seats:
            seat.watch = self.watch
            seat.events = self.events
            self.facts.disks[seat.number].examine = partial(type(seat.platter).remains, seat.platter)
        for seat in self.seats:
            seat.start()
        self._settle()
        for _ in range(TIMEOUTS.ping_ticks):
            self._tick_all()
        assert self.seats[1].leads, "the replica after the first leads first"
        for person in self.people[: LIMITS.sessions_max]:
            self.ask(person, 1, person.register())
            self._settle()
        self.run(2)
        self.events.clear()

    # --- Under way --------------------------------------------------------------------------------

    def _send(self, replica: int, send: Send) -> None:
        for target in send.replicas:
            self.post.send(Letter(replica, target, send.envelope, send.message))

    def _answer(self, replica: int, connection: int, answer: Reply | Reject) -> None:
        """Answers reach their client at once, or never, when nothing gets through."""
        if replica not in self.post.cut_off:
            self.people[connection].hear(answer)

    def jobs(self) -> list[Job]:
        """What disks may complete now: each its oldest of a kind, and any read."""
        found: list[Job] = []
        for seat in self.seats:
            platter, number = seat.platter, seat.number
            if seat.core is None:
                continue
            if platter.disk.image is not None:
                image = platter.disk.image.image
                found.append(Job(number, "superblock", f"view {image.view}, log of view {image.log_view}"))
            if platter.disk.appends:
                append = platter.disk.appends[0]
                ops = ", ".join(f"op {prepare.op}" for prepare in append.prepares) or "nothing"
                proof = f"proof of op {append.proof.acked}" if append.proof is not None else "no proof"
                found.append(Job(number, "journal", f"{ops}, {proof}"))
            found += [Job(number, "read", f"op {read.id.op}", read) for read in platter.reads]
            if platter.store:
                found.append(Job(number, "checkpoints", type(platter.store[0]).__name__))
        return found

    # --- What may happen --------------------------------------------------------------------------

    def happen(self, event: Event) -> None:
        """Take one thing out of the bag."""
        if isinstance(event, Job):
            self.complete(event)
        else:
            self.post.waiting.remove(event)
            self.deliver(event)

    def deliver(self, mail: Mail) -> None:
        """It arrives, whether or not it is still in the bag: a network may copy it."""
        seat = self.seats[mail.target]
        if seat.core is None:
            return
        if isinstance(mail, Letter):
            seat.take(FromPeer(mail.envelope, mail.message))
        else:
            self.watch.from_client(seat.number, mail.message)
            seat.take(FromClient(mail.person, mail.message))

    def complete(self, job: Job) -> None:
        """A disk is done with something."""
        seat = self.seats[job.replica]
        match job.kind:
            case "superblock":
                seat.image_done()
            case "journal":
                seat.append_done()
            case "checkpoints":
                seat.store_done()
            case _:
                assert job.read is not None
                seat.read_done(job.read)

    def ask(self, person: Person, replica: int, message: Request | Read, *, is_late: bool = False) -> None:
        """A client sends something, for the first time or again; it arrives at once or waits in the bag."""
        question = Question(person.number, replica, message)
        if is_late:
            self.post.send(question)
        elif replica not in self.post.cut_off:
            self.deliver(question)

    def work(self, turn: int) -> None:
        """A client whose turn it is, or the next that may, places an order with whoever leads."""
        primary = next((seat for seat in self.seats if seat.leads), None)
        people = [person for person in self.people if person.may_order]
        if primary is not None and people:
            person = people[turn % len(people)]
            self.ask(person, primary.number, person.order())

    def hand_over(self, replica: int) -> None:
        """Somebody asks it to let another lead."""
        self.seats[replica].take(Transfer())

    def crash(self, replica: int, left: Left) -> None:
        """A replica loses its power, and its clients their connections with it."""
        self.seats[replica].crash(left)
        self.post.lose(lambda mail: isinstance(mail, Question) and mail.target == replica)

    def flow(self, count: int) -> None:
        """The next so many things happen as they usually do: disks before messages, oldest first."""
        for _ in range(count):
            event = self._next()
            if event is None:
                return
            self.happen(event)

    def run(self, ticks: int) -> None:
        """Time passes at all that run, and everything happens at once."""
        for _ in range(ticks):
            self._tick_all()

    def _next(self) -> Event | None:
        jobs = self.jobs()
        return jobs[0] if jobs else self.post.waiting[0] if self.post.waiting else None

    # --- Damage -----------------------------------------------------------------------------------

    def rottable(self) -> list[Record]:
        """Records that may become unreadable."""
        return [
            Record(seat.number, prepare)
            for seat in self.seats
            for prepare in sorted(seat.platter.disk.records, key=lambda it: (it.op, it.checksum))
            if self._has_witness(seat, prepare)
        ]

    def rot(self, record: Record) -> None:
        """One of them does."""
        self.facts.disks[record.replica].is_damaged = True
        self.seats[record.replica].platter.rot(record.prepare)

    def forgettable(self) -> list[int]:
        """Replicas that are down and may lose their proofs, or all of their journal: one at a time."""
        if any(self._is_amnesiac(seat) for seat in self.seats):
            return []
        return [
            seat.number
            for seat in self.seats
            if seat.core is None and all(self._has_witness(seat, it) for it in seat.platter.disk.records)
        ]

    def forget(self, replica: int, *, proofs_only: bool) -> None:
        """One of them does."""
        disk = self.facts.disks[replica]
        disk.is_damaged = disk.may_forget = True
        self.seats[replica].platter.lose_log(proofs_only=proofs_only)

    def spoilable(self) -> list[int]:
        """Replicas a chunk of whose checkpoint may become unreadable: others have theirs."""
        return [
            seat.number
            for seat in self.seats
            if seat.platter.chunks and all(it.platter.holds_checkpoint() for it in self.seats if it is not seat)
        ]

    def spoil(self, replica: int, which: int) -> None:
        """One of its chunks does."""
        self.facts.disks[replica].is_damaged = True
        chunks = self.seats[replica].platter.chunks
        del chunks[sorted(chunks)[which % len(chunks)]]

    def _has_witness(self, owner: Seat, prepare: Prepare) -> bool:
        """Whether another disk has the record, and its replica must not deny it."""
        return any(
            prepare in seat.platter.disk.records and prepare.op <= seat.platter.disk.watermark
            for seat in self.seats
            if seat is not owner and not self._is_amnesiac(seat)
        )

    def _is_amnesiac(self, seat: Seat) -> bool:
        return seat.platter.disk.proof is None or (seat.core is not None and seat.core.state.status is Status.AMNESIAC)

    # --- Looking ----------------------------------------------------------------------------------

    def look(self) -> None:
        """What the oracles of outputs cannot see: the memories of all replicas, side by side.

        Raises:
            Violation: INV-2, 7, 16 or 30.
        """
        running = [seat for seat in self.seats if seat.core is not None]
        committed = self.facts.committed
        for seat in running:
            assert seat.core is not None
            self.watch.core(seat.number, seat.core)
            state = seat.core.state
            for op in range(state.log.base.op, min(state.commit_max, state.log.head) + 1):
                checksum = state.log.checksum(op)
                if op <= state.applied and checksum is not None and committed[op : op + 1] != [checksum]:
                    violate("INV-2", f"{seat.name} has applied another op {op} than the one that committed")
        for one, other in combinations(running, 2):
            assert one.core is not None
            assert other.core is not None
            mine, theirs = one.core.state, other.core.state
            if mine.log_view != theirs.log_view:
                continue
            low = max(mine.log.base.op, theirs.log.base.op)
            for op in range(low, min(mine.log.head, theirs.log.head) + 1):
                known = mine.log.checksum(op), theirs.log.checksum(op)
                if None not in known and known[0] != known[1]:
                    violate("INV-7", f"{one.name} and {other.name} have other logs of view {mine.log_view} at op {op}")

    # --- The end ----------------------------------------------------------------------------------

    def mend(self) -> None:
        """Everything works again: within the time of INV-33 all are answered and equal.

        Raises:
            Violation: INV-33, INV-20, or whatever else comes to light.
        """
        self.post.cut_off.clear()
        for seat in self.seats:
            if seat.core is None:
                seat.start()
        for tick in range(SETTLED_TICKS_MAX):
            if tick % ASK_AGAIN_TICKS == 0:
                self._ask_again(tick // ASK_AGAIN_TICKS % REPLICAS)
            self._tick_all()
            if self._has_settled():
                break
        else:
            violate("INV-33", f"it does not settle\n{self._where_all_stand()}")
        self.look()
        self.watch.end()
        if len({seat.machine.digest() for seat in self.seats}) != 1:
            violate("INV-20", "equal ops, different states")

    def _ask_again(self, replica: int) -> None:
        for person in self.people:
            for message in person.unanswered:
                self.ask(person, replica, message)

    def _tick_all(self) -> None:
        for seat in self.seats:
            if seat.core is not None:
                seat.tick(1)
        self._settle()

    def _settle(self) -> None:
        for _ in range(EVENTS_MAX):
            event = self._next()
            if event is None:
                return
            self.happen(event)
        violate("INV-33", f"without any time passing there is always something more to do, now {self._next()}")

    def _has_settled(self) -> bool:
        if any(person.is_waiting for person in self.people):
            return False
        states = [seat.core.state for seat in self.seats if seat.core is not None]
        first = states[0]
        return any(seat.leads for seat in self.seats) and all(
            it.applied == it.commit_max == it.log.head == first.applied and it.status is Status.NORMAL for it in states
        )

    def _where_all_stand(self) -> str:
        lines: list[str] = []
        for seat in self.seats:
            assert seat.core is not None
            state = seat.core.state
            lines.append(
                f"{seat.name}: {state.status.name.lower()}{' leading' if seat.leads else ''}, view {state.view}, log of"
                f" view {state.log_view}, head {state.log.head}, commit {state.commit_max}, applied {state.applied}"
            )
            lines += [f"    waits for {reason}" for reason in waits_for(seat.core)]
        waiting = [
            f"{person.name} waits for {sorted(person.open)}, reads {sorted(person.reads)}"
            for person in self.people
            if person.is_waiting
        ]
        return "\n".join(lines + waiting)
