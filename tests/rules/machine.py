"""The rules: whatever may befall three cores, one step at a time, chosen by Hypothesis.

Every argument is chosen from what is there at that moment and shows as what it is, so that a failing example is a
list of steps in the words of the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import ClassVar, TypeVar, cast

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from sim.exhaust.disk import Kept
from sim.mutants.mutant import Mutant, planted
from tests.rules.people import Person
from tests.rules.platter import Left
from tests.rules.post import Letter, Mail, Shown
from tests.rules.seat import Seat
from tests.rules.story import tell
from tests.rules.world import Job, Record, World

__all__ = ["ReplicationRules"]

T = TypeVar("T")


@attrs.frozen(repr=False)
class PowerLoss(Shown):
    """A crash, and what it leaves."""

    seat: Seat
    left: Left
    words: str  # As it was before.

    @classmethod
    def of(cls, seat: Seat, left: Left) -> PowerLoss:
        """Put it in words while what it destroys is there."""
        disk, log = seat.platter.disk, left.log
        kept = [f"op {prepare.op}" for append in disk.appends[: log.appends] for prepare in append.prepares]
        rest = zip(disk.appends[log.appends :], log.records, strict=True)
        kept += [f"op {p.op} without proof" for append, is_kept in rest if is_kept for p in append.prepares]
        kept += ["the superblock"] if log.image else []
        kept += [f"{left.chunks} jobs about checkpoints"] if left.chunks else []
        words = f"{seat} loses power; of what was being written its disk has {', '.join(kept) or 'nothing'}"
        return cls(seat, left, words)

    def __repr__(self) -> str:
        return f"<{self.words}>"


def some(look: Callable[[World], Sequence[T]]) -> st.SearchStrategy[T]:
    """One of what is there now."""
    machine = cast("st.SearchStrategy[ReplicationRules]", st.runner())
    return machine.flatmap(lambda it: st.sampled_from(look(it.world)))


def running(world: World) -> list[Seat]:
    """Replicas that are up; the first, which is what an example shrinks to, leads."""
    return sorted([seat for seat in world.seats if seat.core is not None], key=lambda seat: not seat.leads)


def down(world: World) -> list[Seat]:
    """Replicas that are not."""
    return [seat for seat in world.seats if seat.core is None]


def waiting(world: World) -> list[Mail]:
    """The bag of messages."""
    return world.post.waiting


def strangers(world: World) -> list[Person]:
    """Clients that have no session and asked for none."""
    return [person for person in world.people if not person.session and not person.open]


def orderers(world: World) -> list[Person]:
    """Clients that may place an order."""
    return [person for person in world.people if person.may_order]


def readers(world: World) -> list[Person]:
    """Clients that wait for no read."""
    return [person for person in world.people if not person.reads]


def waiters(world: World) -> list[Person]:
    """Clients that lack an answer."""
    return [person for person in world.people if person.is_waiting]


def primaries_first(world: World) -> list[Seat]:
    """Whom to ask: mostly a primary, if there is one."""
    return [seat for seat in world.seats if seat.leads] * 3 + running(world)


def connected(world: World) -> list[Seat]:
    """Replicas that may be cut off: one at a time, which is as good as more."""
    return [] if world.post.cut_off else world.seats


def cut_off(world: World) -> list[Seat]:
    """Replicas that are."""
    return [seat for seat in world.seats if seat.number in world.post.cut_off]


@st.composite
def power_losses(draw: st.DrawFn) -> PowerLoss:
    """A crash with any subset of the unfinished writes kept."""
    seat = draw(some(running))
    disk = seat.platter.disk
    appends = draw(st.integers(0, len(disk.appends)))
    records = [bool(append.prepares) and draw(st.booleans()) for append in disk.appends[appends:]]
    image = disk.image is not None and draw(st.booleans())
    chunks = draw(st.integers(0, len(seat.platter.store)))
    return PowerLoss.of(seat, Left(Kept(appends, tuple(records), image), chunks))


def when(look: Callable[[World], Sequence[object]]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule that needs something there."""
    return precondition(lambda machine: bool(look(machine.world)))


def _later(is_late: bool) -> str:
    return ", in a message that waits" if is_late else ""


class ReplicationRules(RuleBasedStateMachine):
    """Three replicas of the shipped core, three clients, and everything that may befall them."""

    bug: ClassVar[Mutant | None] = None  # Planted once the cluster leads its first view: many would show before.

    def __init__(self) -> None:
        super().__init__()
        self.is_broken = False
        self.world = World()
        self._planting = ExitStack()
        if self.bug is not None:
            self._planting.enter_context(planted(self.bug))

    @contextmanager
    def step(self, words: str) -> Generator[World]:
        """Do something, look whether all promises are kept, and tell everything that happened if one is not."""
        self.world.events.append(("", words))
        try:
            yield self.world
            self.world.look()
        except Exception as error:
            self.is_broken = True
            error.add_note(tell(self.world.events))
            raise

    # --- Messages ---------------------------------------------------------------------------------

    @when(waiting)
    @rule(mail=some(waiting))
    def deliver(self, mail: Mail) -> None:
        """A message arrives, whatever was sent before it."""
        with self.step(f"{mail} arrives") as world:
            world.happen(mail)

    @when(waiting)
    @rule(mail=some(waiting))
    def deliver_a_copy(self, mail: Mail) -> None:
        """A message arrives, and stays on its way; of a client's a connection makes no copies."""
        if isinstance(mail, Letter):
            with self.step(f"a copy of {mail} arrives") as world:
                world.deliver(mail)

    @when(waiting)
    @rule(mail=some(waiting))
    def lose(self, mail: Mail) -> None:
        """A message never arrives."""
        with self.step(f"{mail} is lost") as world:
            world.post.lose(lambda it: it is mail)

    @when(running)
    @rule(seat=some(running))
    def deliver_all_to(self, seat: Seat) -> None:
        """Everything that waits for one replica arrives."""
        for mail in [mail for mail in self.world.post.waiting if mail.target == seat.number]:
            with self.step(f"{mail} arrives") as world:
                if mail in world.post.waiting:
                    world.happen(mail)

    @when(connected)
    @rule(seat=some(connected))
    def cut(self, seat: Seat) -> None:
        """Nothing passes to or from a replica any more."""
        with self.step(f"{seat} is cut off") as world:
            world.post.cut(seat.number)

    @when(cut_off)
    @rule(seat=some(cut_off))
    def reconnect(self, seat: Seat) -> None:
        """It does again."""
        with self.step(f"{seat} is connected again") as world:
            world.post.cut_off.discard(seat.number)

    # --- Disks and time ---------------------------------------------------------------------------

    @precondition(lambda machine: bool(machine.world.jobs()))
    @rule(job=some(World.jobs))
    def complete(self, job: Job) -> None:
        """A disk is done with something."""
        with self.step(f"{job} is done") as world:
            world.complete(job)

    @when(running)
    @rule(seat=some(running))
    def finish_disk(self, seat: Seat) -> None:
        """A disk is done with everything."""
        while jobs := [job for job in self.world.jobs() if job.replica == seat.number]:
            with self.step(f"{jobs[0]} is done") as world:
                world.complete(jobs[0])

    @when(running)
    @rule(seat=some(running), ticks=st.sampled_from((1, 4, 12, 40)))
    def pass_time(self, seat: Seat, ticks: int) -> None:
        """Time passes at one replica, as after a pause."""
        with self.step(f"{ticks} ticks pass at {seat}"):
            seat.tick(ticks)

    @rule(count=st.integers(1, 40))
    def flow(self, count: int) -> None:
        """So many things happen in their usual order: disks first, then the oldest message."""
        with self.step(f"{count} things happen in their usual order") as world:
            world.flow(count)

    @rule(ticks=st.integers(1, 16), orders=st.integers(0, 6))
    def live_in_peace(self, ticks: int, orders: int) -> None:
        """Time passes at all that run; whatever waits happens in its usual order, and a primary is given work."""
        with self.step(f"{ticks} ticks pass, {orders} orders are placed, and nothing waits") as world:
            for tick in range(max(ticks, orders)):
                if tick < orders:
                    world.work(tick)
                if tick < ticks:
                    world.run(1)

    # --- Clients ----------------------------------------------------------------------------------

    @when(running)
    @when(strangers)
    @rule(person=some(strangers), seat=some(primaries_first), is_late=st.booleans())
    def register(self, person: Person, seat: Seat, is_late: bool) -> None:
        """A client asks for a session."""
        with self.step(f"{person} asks {seat} for a session{_later(is_late)}") as world:
            world.ask(person, seat.number, person.register(), is_late=is_late)

    @when(running)
    @when(orderers)
    @rule(person=some(orderers), seat=some(primaries_first), is_late=st.booleans())
    def place(self, person: Person, seat: Seat, is_late: bool) -> None:
        """A client places an order."""
        with self.step(f"{person} places an order at {seat}{_later(is_late)}") as world:
            world.ask(person, seat.number, person.order(), is_late=is_late)

    @when(running)
    @when(readers)
    @rule(person=some(readers), seat=some(primaries_first), here=st.booleans())
    def read(self, person: Person, seat: Seat, here: bool) -> None:
        """A client reads: at a primary, or wherever it asks."""
        with self.step(f"{person} reads at {seat}{', which is to answer itself' if here else ''}") as world:
            world.ask(person, seat.number, person.read(here=here))

    @when(running)
    @when(waiters)
    @rule(person=some(waiters), seat=some(primaries_first), is_late=st.booleans())
    def ask_again(self, person: Person, seat: Seat, is_late: bool) -> None:
        """A client repeats everything that it has no answer to."""
        with self.step(f"{person} asks {seat} again{_later(is_late)}") as world:
            for message in person.unanswered:
                world.ask(person, seat.number, message, is_late=is_late)

    # --- Crashes and damage -----------------------------------------------------------------------

    @when(running)
    @rule(loss=power_losses(), stays_down=st.booleans())
    def crash(self, loss: PowerLoss, stays_down: bool) -> None:
        """A replica loses its power, and any of the writes that were not finished; it may start again at once."""
        with self.step(f"{loss.words}{'' if stays_down else '; it starts again'}") as world:
            world.crash(loss.seat.number, loss.left)
            if not stays_down:
                loss.seat.start()

    @when(down)
    @rule(seat=some(down))
    def start(self, seat: Seat) -> None:
        """A replica starts again."""
        with self.step(f"{seat} starts"):
            seat.start()

    @precondition(lambda machine: bool(machine.world.rottable()))
    @rule(record=some(World.rottable))
    def rot(self, record: Record) -> None:
        """A record becomes unreadable, one that is whole elsewhere."""
        with self.step(f"{record} rots") as world:
            world.rot(record)

    @precondition(lambda machine: bool(machine.world.forgettable()))
    @rule(replica=some(World.forgettable), proofs_only=st.booleans())
    def forget(self, replica: int, proofs_only: bool) -> None:
        """A replica that is down loses all its proofs, or its whole journal."""
        with self.step(f"R{replica} loses {'all its proofs' if proofs_only else 'its journal'}") as world:
            world.forget(replica, proofs_only=proofs_only)

    @precondition(lambda machine: bool(machine.world.spoilable()))
    @rule(replica=some(World.spoilable), which=st.integers(0, 15))
    def spoil(self, replica: int, which: int) -> None:
        """A chunk of a checkpoint becomes unreadable; the others have theirs."""
        with self.step(f"chunk {which} of the checkpoints on R{replica} rots") as world:
            world.spoil(replica, which)

    @when(running)
    @rule(seat=some(primaries_first))
    def hand_over(self, seat: Seat) -> None:
        """Somebody asks a replica to let another lead."""
        with self.step(f"{seat} is asked to let another lead") as world:
            world.hand_over(seat.number)

    # --- The end ----------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Everything is mended: everybody is answered, and all states are equal."""
        with self._planting:
            if not self.is_broken:
                with self.step("everything is mended") as world:
                    world.mend()
