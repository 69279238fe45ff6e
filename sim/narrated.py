"""The scenario language with a voice: the same cluster, which says what is done to it and what came true.

Named scenarios (`sim.scenarios`) run on it. An expectation beyond those of `sim.scenario` is said with its reason:

    c.expect(c.primaries() == [b], f"{b} leads, and nobody else")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import attrs

from sim.narration import Narration
from sim.scenario import Answer, Cluster
from sim.scheduler import TICK_US
from sim.shape import Shape
from sim.stage import Interception, Letter, Test
from sim.workload import Operation
from trio_pb.app.orders import PLACE, SCAN, decode_place
from trio_pb.core.client_ports import Failure, Success
from trio_pb.core.messages import Reply

__all__ = ["NarratedAnswer", "NarratedCluster"]


@attrs.frozen
class NarratedAnswer(Answer):
    """The coming answer to one request, with the story that it is part of."""

    narration: Narration

    def expect_reply(self) -> NarratedAnswer:
        """Wait for the answer, which must come."""
        told = self.is_answered
        super().expect_reply()
        if not told:
            self.narration.held(f"{_named(self.operation)} is answered after {self.ticks * 10:.1f} ms{_said(self)}")
        return self

    def expect_no_reply(self, ticks: int = 300) -> NarratedAnswer:
        """Wait in vain."""
        super().expect_no_reply(ticks)
        self.narration.held(f"{_named(self.operation)} has no answer after {ticks * 10} ms, as it must be")
        return self

    def expect_failure(self) -> Failure:
        """Wait for the answer, which must be a refusal; return it."""
        failure = super().expect_failure()
        self.narration.held(f"{_named(self.operation)} is refused: {failure.reason}")
        return failure


class NarratedCluster(Cluster):
    """A cluster under the hands of a scenario, which tells what it goes through."""

    def __init__(self, replicas: int = 3, seed: int = 1, shape: Shape | None = None, *, ready: bool = True) -> None:
        """As `Cluster`; until it is ready nothing is told."""
        super().__init__(replicas, seed, shape, ready=ready)
        self.narration = Narration(lambda: self.sim.scheduler.now)
        if ready:
            self.narration.tell(f"{replicas} replicas; {self.names[0]} leads view {self.replica('A0').view}")
        else:
            self.narration.tell(f"{replicas} replicas start for the first time")

    def tell(self, text: str) -> None:
        """Say why something is done."""
        self.narration.tell(text)

    def quietly(self) -> AbstractContextManager[None]:
        """Tell nothing of what is done in this block: `tell` says it as a whole."""
        return self.narration.silence()

    def expect(self, holds: bool, text: str) -> None:
        """Demand that something is so, and say it.

        Raises:
            AssertionError: it is not.
        """
        assert holds, f"not so: {text}"
        self.narration.held(text)

    # --- Clients --------------------------------------------------------------------------------

    def order(self, laptop: str, *, customer: int = 1, via: str | None = None) -> NarratedAnswer:
        """Place an order; `via` names the only replica that this client knows and can reach."""
        self._announce(f"orders {laptop!r} for customer {customer}", via)
        return self._narrated(super().order(laptop, customer=customer, via=via))

    def read(self, customer: int = 1, *, via: str | None = None, here: bool = False) -> NarratedAnswer:
        """Read a customer; `here`: any replica may answer, after asking the primary."""
        self._announce(f"reads customer {customer}{', from whatever replica' if here else ''}", via)
        return self._narrated(super().read(customer, via=via, here=here))

    def orders(self, count: int, *, customer: int = 1) -> list[Answer]:
        """Place `count` orders at once, one after the other for the same customer; wait for all."""
        self.narration.tell(f"a client orders {count} laptops for customer {customer} at once")
        with self.narration.silence():
            answers = super().orders(count, customer=customer)
        self.narration.held(f"all {count} orders are answered")
        return answers

    def scan(self, limit: int, *, after: Answer | None = None) -> NarratedAnswer:
        """Ask for a page of at most `limit` customers; `after`: the next page of that scan."""
        self._announce(f"asks for {'the next' if after else 'a first'} page of {limit} customers", None)
        return self._narrated(super().scan(limit, after=after))

    def await_answer(self, answer: Answer, ticks: int = 300) -> None:
        """Wait for an answer that may come or not, at most so long."""
        limit = self.sim.scheduler.now + ticks * TICK_US
        if self.sim.run_until(lambda: answer.operation.ended is not None, limit):
            assert isinstance(answer.operation.outcome, Success), f"no answer: {answer.operation.outcome}"
            self.narration.tell(f"{_named(answer.operation)} is answered{_said(answer)}")
        else:
            self.narration.tell(f"{_named(answer.operation)} has no answer after {ticks * 10} ms")

    def await_answers(self) -> None:
        """Wait for the answers to everything that was asked."""
        operations = self.sim.history.operations
        self.run_until(lambda: all(it.ended is not None for it in operations), "all answers")
        self.narration.held("every request is answered")

    def _announce(self, what: str, via: str | None) -> None:
        only = "" if via is None else f", at {self._named([via])}, the only replica that it reaches"
        self.narration.tell(f"a client {what}{only}")

    def _narrated(self, answer: Answer) -> NarratedAnswer:
        return NarratedAnswer(answer.cluster, answer.operation, self.narration)

    # --- Faults ---------------------------------------------------------------------------------

    def isolate(self, *names: str) -> None:
        """Cut each named replica off from all other replicas; clients still reach it."""
        self.narration.tell(f"{self._named(names)} {_is(names)} cut off from the other replicas")
        super().isolate(*names)

    def partition(self, *sides: Iterable[str]) -> None:
        """Let replicas of different sides not hear each other; clients reach all."""
        groups = [list(side) for side in sides]
        self.narration.tell(f"the network falls apart: {' | '.join(self._named(group) for group in groups)}")
        super().partition(*groups)

    def cut(self, source: str, destination: str, *, one_way: bool = False) -> None:
        """Cut one link."""
        one, other = self._named([source]), self._named([destination])
        if one_way:
            self.narration.tell(f"nothing gets from {one} to {other} any more")
        else:
            self.narration.tell(f"the link between {one} and {other} is cut")
        super().cut(source, destination, one_way=one_way)

    def mend(self, *names: str) -> None:
        """End every cut between the named replicas."""
        self.narration.tell(f"the links between {self._named(names)} work again")
        super().mend(*names)

    def connect_only(self, *links: tuple[str, str]) -> None:
        """Leave these links between replicas and cut all others."""
        left = ", ".join("-".join(f"R{number}" for number in self._numbers(link)) for link in links)
        self.narration.tell(f"only these links between replicas are left: {left}")
        super().connect_only(*links)

    def cut_clients(self, *names: str) -> None:
        """Let no client reach the named replicas, nor hear them."""
        self.narration.tell(f"no client reaches {self._named(names)}")
        super().cut_clients(*names)

    def lose_next_reply(self) -> None:
        """Lose the next answer to an order, on its way to the client."""
        self.narration.tell("the next answer to an order will be lost")
        lost: list[Letter] = []

        def act(letter: Letter) -> bool:
            message = letter.message
            if lost or not isinstance(message, Reply) or message.number == 0:  # 0: a registration.
                return False
            lost.append(letter)
            self.narration.tell(f"R{letter.source}'s answer is lost")
            return True

        self.change("Reply", act)

    def heal(self) -> None:
        """End every partition and rule; what was held back is lost."""
        self.narration.tell("the network is well again")
        super().heal()

    def heal_partitions(self) -> None:
        """End every partition; what is done to single messages goes on."""
        self.narration.tell("every link works again")
        super().heal_partitions()

    # --- Single messages --------------------------------------------------------------------------

    def hold(
        self,
        kind: str,
        *,
        src: str | None = None,
        dst: str | None = None,
        when: Test | None = None,
    ) -> Interception:
        """Keep messages from arriving until they are released."""
        self.narration.tell(f"every {kind}{self._from_to(src, dst)} is held back")
        return super().hold(kind, src=src, dst=dst, when=when)

    def lose(
        self,
        kind: str,
        *,
        src: str | None = None,
        dst: str | None = None,
        when: Test | None = None,
    ) -> Interception:
        """Lose messages, until stopped."""
        some = "every" if when is None else "a certain"
        self.narration.tell(f"{some} {kind}{self._from_to(src, dst)} is lost")
        return super().lose(kind, src=src, dst=dst, when=when)

    def delay(self, ticks: int, kind: str, *, when: Test | None = None) -> Interception:
        """Let messages arrive `ticks` later."""
        self.narration.tell(f"every {kind} comes {ticks * 10} ms late")
        return super().delay(ticks, kind, when=when)

    def repeat(self, ticks: int) -> Interception:
        """Let every message between replicas arrive once more, `ticks` later."""
        self.narration.tell(f"every message between replicas comes once more, {ticks * 10} ms later")
        return super().repeat(ticks)

    def _from_to(self, src: str | None, dst: str | None) -> str:
        source = "" if src is None else f" from {self._named([src])}"
        return source + ("" if dst is None else f" to {self._named([dst])}")

    # --- Crashes, disks and clocks ------------------------------------------------------------------

    def crash(self, *names: str, power: bool = True) -> None:
        """Kill replicas at once; with `power` unflushed writes are at stake."""
        if names:
            how = ("lose power" if len(names) > 1 else "loses power") if power else f"{_is(names)} killed"
            self.narration.tell(f"{self._named(names)} {how}")
        super().crash(*names, power=power)

    def restart(self, *names: str) -> None:
        """Start replicas that are down, and wait until they have opened their storage."""
        if names:
            self.narration.tell(f"{self._named(names)} {'start' if len(names) > 1 else 'starts'} again")
        super().restart(*names)

    def hang_disk(self, *names: str) -> None:
        """Let no disk work of the named replicas end."""
        self.narration.tell(f"the disk of {self._named(names)} hangs")
        super().hang_disk(*names)

    def free_disk(self, *names: str) -> None:
        """Let hanging disks go on."""
        self.narration.tell(f"the disk of {self._named(names)} goes on")
        super().free_disk(*names)

    def rot(self, name: str, text: str) -> None:
        """Let every place on a replica's disk decay that holds `text`."""
        self.narration.tell(f"what {self._named([name])}'s disk holds of {text!r} decays")
        super().rot(name, text)

    def reformat(self, name: str) -> None:
        """Replace the disk of a replica that is down by a new one, formatted with the old id."""
        self.narration.tell(f"{self._named([name])} gets an empty disk, formatted with its old id")
        super().reformat(name)

    def upgrade(self, name: str, release: int, *, least: int) -> None:
        """Give a replica that is down a later program."""
        speaks = "" if least == release else f", which knows release {least} as well"
        self.narration.tell(f"{self._named([name])} gets a program of release {release}{speaks}")
        super().upgrade(name, release, least=least)

    def set_clock(self, name: str, seconds: int) -> None:
        """Let a replica's wall clock be `seconds` ahead."""
        self.narration.tell(f"the clock of {self._named([name])} is {seconds} s ahead")
        super().set_clock(name, seconds)

    def pause(self, *names: str) -> None:
        """Stop replicas from executing."""
        self.narration.tell(f"{self._named(names)} {_is(names)} paused")
        super().pause(*names)

    def resume(self, *names: str) -> None:
        """Let paused replicas go on."""
        self.narration.tell(f"{self._named(names)} {'go' if len(names) > 1 else 'goes'} on")
        super().resume(*names)

    def transfer(self) -> None:
        """Ask the primary to hand over."""
        self.narration.tell(f"{self.primaries()[0]} is asked to hand over")
        super().transfer()

    # --- Time -----------------------------------------------------------------------------------

    def wait_until(self, condition: Callable[[], bool], text: str) -> None:
        """Wait until something is so, and say it."""
        self.run_until(condition, text)
        self.narration.held(text)

    def await_primary(self, *names: str) -> str:
        """Wait until one of the named replicas, or any, leads; return its name."""
        numbers = self._numbers(names) if names else [replica.number for replica in self.sim.replicas]
        views = [self.replica(f"R{number}") for number in numbers]
        self.run_until(lambda: any(view.is_primary for view in views), "a primary")
        name = next(view.replica.name for view in views if view.is_primary)
        self.narration.held(f"{name} leads view {self.replica(name).view}")
        return name

    # --- Looking --------------------------------------------------------------------------------

    def settle(self) -> None:
        """Mend everything, start everyone, wait until all is answered and executed; then judge the whole."""
        self.heal()
        self.restart(*(replica.name for replica in self.sim.replicas if not replica.is_up))
        self.await_answers()
        self.expect_same_state()

    def expect_same_state(self, *names: str) -> None:
        """The named replicas, or all, come to the same op and state; the clients' history holds."""
        super().expect_same_state(*names)
        who = self._named(names) if names else "all replicas"
        op = self.sim.facts.committed_op
        self.narration.held(f"{who} have executed the same {op} ops and are in one state; every answer was right")

    def _named(self, names: Iterable[str]) -> str:
        found = [f"R{number}" for number in self._numbers(names)]
        return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def _is(names: tuple[str, ...]) -> str:
    return "are" if len(names) > 1 else "is"


def _said(answer: Answer) -> str:
    """What an answer says, in short."""
    operation = answer.operation
    if operation.code == SCAN and operation.is_read:
        return f": {len(answer.page.records)} customers, the state at op {operation.op}"
    if operation.is_read:
        record = answer.record
        many = f"{record.orders} order{'s' if record.orders > 1 else ''}"
        return f": {many}, the last one of {record.laptop_type!r}" if record.orders else ": no orders"
    return f", at op {answer.receipt.op}"


def _named(operation: Operation) -> str:
    """Which request it is, for people."""
    if operation.code == PLACE and not operation.is_read:
        return f"the order of {decode_place(operation.body).laptop_type!r}"
    if operation.code == SCAN:
        return "the page"
    return f"the read of customer {operation.customer}"
