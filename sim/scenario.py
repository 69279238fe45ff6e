"""The scenario language: start, fault, expectation, in the words of the protocol.

    c = Cluster(replicas=3)
    c.order("laptop-1").expect_reply()
    c.isolate("A0")  # The current primary; B1, B2: backups; R0..R2: by number.
    c.order("laptop-2", via="A0").expect_no_reply()
    c.run_until(lambda: c.replica("R1").is_primary)
    c.heal()
    c.expect_same_state("R0", "R1", "R2")

Time is virtual and every oracle looks on; a scenario takes milliseconds and is the same in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias, cast

import attrs

from sim.choices import Choices
from sim.client import SimClient
from sim.disk import FakeDisk
from sim.network import DropRule
from sim.oracles.facts import DiskFacts
from sim.oracles.linearizability import check_linearizability
from sim.oracles.liveness import describe, has_converged
from sim.oracles.op_order import check_history
from sim.replica import SimReplica
from sim.scenario_disks import DiskView
from sim.scheduler import SECOND, TICK_US
from sim.shape import Shape
from sim.stage import AnyMessage, Caller, Interception, Letter, Stage
from sim.wall_clock import WallClock
from sim.workload import Operation
from trio_pb.app.orders import (
    PLACE,
    READ,
    SCAN,
    CustomerRecord,
    OrderReceipt,
    PlaceOrder,
    ReadCustomer,
    ScanCustomers,
    ScanPage,
    decode_receipt,
    decode_record,
    decode_scan_page,
    encode_place,
    encode_read,
    encode_scan,
)
from trio_pb.core.client_ports import Failure, Success
from trio_pb.core.messages import Envelope, Status
from trio_pb.core.ports import Transfer
from trio_pb.core.state import State
from trio_pb.storage.disk import Flush, Job, ListFiles, Read, Write, run
from trio_pb.storage.journal import LOG_FOLDER
from trio_pb.storage.store import Store, format_directory

__all__ = ["Answer", "Cluster", "ReplicaView"]

PATIENCE = 30 * SECOND  # Virtual time after which an expected thing counts as not happening.

_Test: TypeAlias = "Callable[[Envelope | None, AnyMessage], bool] | None"


@attrs.frozen
class ReplicaView:
    """A replica as scenarios look at it."""

    replica: SimReplica

    @property
    def state(self) -> State:
        """The core's state; only while it runs."""
        core = self.replica.core
        assert core is not None, f"{self.replica.name} is not running"
        return core.state

    @property
    def is_primary(self) -> bool:
        """Whether it runs and leads."""
        return self.replica.core is not None and self.state.is_leading

    @property
    def view(self) -> int:
        """Its view."""
        return self.state.view

    @property
    def status(self) -> Status:
        """What it is doing."""
        return self.state.status

    @property
    def head(self) -> int:
        """The highest op in its log."""
        return self.state.log.head

    @property
    def commit(self) -> int:
        """Its commit point."""
        return self.state.commit_max

    @property
    def applied(self) -> int:
        """The highest op that it executed."""
        return self.state.applied

    def counted(self, what: str) -> int:
        """One of its counters, of this boot."""
        return self.state.counters[what]


@attrs.frozen
class Answer:
    """The coming answer to one request."""

    cluster: Cluster
    operation: Operation

    def expect_reply(self) -> Answer:
        """Wait for the answer, which must come."""
        operation = self.operation
        self.cluster.run_until(lambda: operation.ended is not None, f"an answer to {operation.client}")
        assert operation.succeeded, f"{operation.client}: {operation.outcome}"
        return self

    def expect_no_reply(self, ticks: int = 300) -> Answer:
        """Wait in vain."""
        self.cluster.run_for(ticks)
        assert self.operation.ended is None, f"{self.operation.client} was answered: {self.operation.outcome}"
        return self

    def expect_failure(self) -> Failure:
        """Wait for the answer, which must be a refusal; return it."""
        operation = self.operation
        self.cluster.run_until(lambda: operation.ended is not None, f"an answer to {operation.client}")
        assert isinstance(operation.outcome, Failure), f"{operation.client}: {operation.outcome}"
        return operation.outcome

    @property
    def is_answered(self) -> bool:
        """Whether it came."""
        return self.operation.succeeded

    @property
    def ticks(self) -> float:
        """How long it took, in ticks."""
        assert self.operation.ended is not None
        return (self.operation.ended - self.operation.begun) / TICK_US

    @property
    def timestamp(self) -> int:
        """When it was accepted, in nanoseconds, as the cluster tells."""
        outcome = self.operation.outcome
        assert isinstance(outcome, Success), f"{self.operation.client}: {outcome}"
        return outcome.reply.timestamp

    @property
    def page(self) -> ScanPage:
        """What a page of a scan shows."""
        return decode_scan_page(self._result())

    @property
    def cursor(self) -> bytes:
        """Where the next page of a scan begins; empty after the last."""
        outcome = self.operation.outcome
        assert isinstance(outcome, Success), f"{self.operation.client}: {outcome}"
        return outcome.reply.cursor

    @property
    def receipt(self) -> OrderReceipt:
        """What an order was answered."""
        return decode_receipt(self._result())

    @property
    def record(self) -> CustomerRecord:
        """What a read was answered."""
        return decode_record(self._result())

    def _result(self) -> bytes:
        outcome = self.operation.outcome
        assert isinstance(outcome, Success), f"{self.operation.client}: {outcome}"
        return outcome.reply.result


class Cluster:
    """A cluster under the hands of a scenario."""

    def __init__(self, replicas: int = 3, seed: int = 1, shape: Shape | None = None, *, ready: bool = True) -> None:
        """Wait for a first primary if `ready`, else begin at the very beginning."""
        made = attrs.evolve(shape or Shape(), replicas=replicas, clients=0)
        # No recorded choices: whatever is not said in the scenario does not happen.
        self.sim = Stage(Choices(seed, {}), made)
        self._default: SimClient | None = None
        self._tokens = 0
        self.sim.start()
        if ready:
            self.run_until(self._is_ready, "a first primary that everybody follows")

    # --- Clients --------------------------------------------------------------------------------

    def order(self, laptop: str, *, customer: int = 1, via: str | None = None) -> Answer:
        """Place an order; `via` names the only replica that this client knows and can reach."""
        self._tokens += 1
        body = encode_place(PlaceOrder(customer, self._tokens, laptop))
        return self._submit(Operation(self._tokens, "", PLACE, body, is_read=False, customer=customer), via)

    def read(self, customer: int = 1, *, via: str | None = None, here: bool = False) -> Answer:
        """Read a customer; `here`: any replica may answer, after asking the primary."""
        self._tokens += 1
        body = encode_read(ReadCustomer(customer))
        operation = Operation(self._tokens, "", READ, body, is_read=True, customer=customer, here=here)
        return self._submit(operation, via)

    def orders(self, count: int, *, customer: int = 1) -> list[Answer]:
        """Place `count` orders at once, one after the other for the same customer; wait for all."""
        answers = [self.order(f"laptop {number}", customer=customer) for number in range(count)]
        self.run_until(lambda: all(answer.is_answered for answer in answers), f"{count} answers")
        return answers

    def scan(self, limit: int, *, after: Answer | None = None) -> Answer:
        """Ask for a page of at most `limit` customers; `after`: the next page of that scan."""
        self._tokens += 1
        operation = Operation(self._tokens, "", SCAN, encode_scan(ScanCustomers(0, limit)), is_read=True)
        if after is not None:
            operation.cursor = after.cursor
            operation.scan = after.operation.scan or after.operation.token
        return self._submit(operation, None)

    def caller(self) -> Caller:
        """A client that sends exactly what it is told."""
        return self.sim.add_caller(lambda name: self._numbers([name])[0])

    def _submit(self, operation: Operation, via: str | None) -> Answer:
        client = self._client(via)
        operation.client = client.name
        client.submit(operation)
        return Answer(self, operation)

    def _client(self, via: str | None) -> SimClient:
        if via is None:
            self._default = self._default or self.sim.add_client()
            return self._default
        only = self._numbers([via])[0]
        client = self.sim.add_client()
        others = [replica.number for replica in self.sim.replicas if replica.number != only]
        self.sim.network.block([client.node], others)
        return client

    # --- Faults ---------------------------------------------------------------------------------

    def isolate(self, *names: str) -> None:
        """Cut each named replica off from all other replicas; clients still reach it."""
        everyone = [replica.number for replica in self.sim.replicas]
        for number in self._numbers(names):
            self.sim.network.block([number], everyone)

    def partition(self, *sides: Iterable[str]) -> None:
        """Let replicas of different sides not hear each other; clients reach all."""
        groups = [self._numbers(side) for side in sides]
        for index, group in enumerate(groups):
            for other in groups[index + 1 :]:
                self.sim.network.block(group, other)

    def cut(self, source: str, destination: str, *, one_way: bool = False) -> None:
        """Cut one link."""
        self.sim.network.block(self._numbers([source]), self._numbers([destination]), one_way=one_way)

    def mend(self, *names: str) -> None:
        """End every cut between the named replicas."""
        numbers = self._numbers(names)
        self.sim.network.unblock(numbers, numbers)

    def connect_only(self, *links: tuple[str, str]) -> None:
        """Leave these links between replicas and cut all others."""
        pairs = [self._numbers(link) for link in links]
        everyone = [replica.number for replica in self.sim.replicas]
        self.sim.network.block(everyone, everyone)
        for source, destination in pairs:
            self.sim.network.unblock([source], [destination])

    def cut_clients(self, *names: str) -> None:
        """Let no client reach the named replicas, nor hear them."""
        self.sim.network.block([client.node for client in self.sim.clients], self._numbers(names))

    def drop(self, *, kind: str | None = None, src: str | None = None, dst: str | None = None) -> None:
        """Drop messages of a class (by its name), from a replica, to a replica; None means any."""
        source = None if src is None else self._numbers([src])[0]
        destination = None if dst is None else self._numbers([dst])[0]
        self.sim.network.rules.append(DropRule(kind=kind, source=source, destination=destination))

    # --- Single messages, at the moment of their arrival -------------------------------------------

    def hold(self, kind: str, *, src: str | None = None, dst: str | None = None, when: _Test = None) -> Interception:
        """Keep messages from arriving until they are released."""
        return self._intercept(lambda _: True, kind, src, dst, when, keeps=True)

    def lose(self, kind: str, *, src: str | None = None, dst: str | None = None, when: _Test = None) -> Interception:
        """Lose messages, until stopped."""
        return self._intercept(lambda _: True, kind, src, dst, when)

    def copy(self, kind: str, *, src: str | None = None, dst: str | None = None, when: _Test = None) -> Interception:
        """Keep copies of messages; released, they arrive once more."""
        return self._intercept(lambda _: False, kind, src, dst, when, keeps=True)

    def change(
        self, kind: str, act: Callable[[Letter], bool], *, src: str | None = None, dst: str | None = None
    ) -> Interception:
        """Let `act` do what it likes with messages; it returns whether they go no further."""
        return self._intercept(act, kind, src, dst, None)

    def delay(self, ticks: int, kind: str, *, when: _Test = None) -> Interception:
        """Let messages arrive `ticks` later."""

        def act(letter: Letter) -> bool:
            self.sim.deliver(letter, ticks)
            return True

        return self._intercept(act, kind, None, None, when)

    def repeat(self, ticks: int) -> Interception:
        """Let every message between replicas arrive once more, `ticks` later."""

        def act(letter: Letter) -> bool:
            if not letter.payload.connection:
                self.sim.deliver(letter, ticks)
            return False

        return self._intercept(act, None, None, None, None)

    def _intercept(
        self,
        act: Callable[[Letter], bool],
        kind: str | None,
        src: str | None,
        dst: str | None,
        when: _Test,
        *,
        keeps: bool = False,
    ) -> Interception:
        source = None if src is None else self._numbers([src])[0]
        destination = None if dst is None else self._numbers([dst])[0]
        made = Interception(self.sim, kind, source, destination, when, act, keeps)
        self.sim.interceptions.append(made)
        return made

    # --- Crashes, disks and clocks ------------------------------------------------------------------

    def crash(self, *names: str, power: bool = True) -> None:
        """Kill replicas at once; with `power` unflushed writes are at stake."""
        for replica in [self.sim.replicas[number] for number in self._numbers(names)]:
            replica.crash(power=power)

    def restart(self, *names: str) -> None:
        """Start replicas that are down, and wait until they have opened their storage, or refused to."""
        replicas = [self.sim.replicas[number] for number in self._numbers(names)]
        for replica in replicas:
            replica.start()
        self.run_until(lambda: all(it.core is not None or it.is_stopped for it in replicas), "restarted replicas")

    def crash_in_disk_work(self, name: str, steps: int, *, power: bool = True) -> None:
        """Kill a replica when its disk has begun `steps` more steps of work; it may be down yet."""
        self.sim.replicas[self._numbers([name])[0]].plan_crash(power=power, after_outputs=None, after_steps=steps)

    def spare(self, name: str) -> None:
        """Cancel a planned crash that has not happened."""
        replica = self.sim.replicas[self._numbers([name])[0]]
        replica.plan_crash(power=True, after_outputs=None, after_steps=None)

    def is_up(self, name: str) -> bool:
        """Whether its process runs."""
        return self.sim.replicas[self._numbers([name])[0]].is_up

    def is_stopped(self, name: str) -> bool:
        """Whether it stopped by itself, rightly and for good."""
        return self.sim.replicas[self._numbers([name])[0]].is_stopped

    def disk(self, name: str) -> DiskView:
        """The disk of a replica, to look at and to damage."""
        return DiskView(self.sim.replicas[self._numbers([name])[0]])

    def hang_disk(self, *names: str) -> None:
        """Let no disk work of the named replicas end."""
        for number in self._numbers(names):
            self.sim.actors[number].hang_disk()

    def free_disk(self, *names: str) -> None:
        """Let hanging disks go on."""
        for number in self._numbers(names):
            self.sim.actors[number].free_disk()

    def rot(self, name: str, text: str) -> None:
        """Let every place on a replica's disk decay that holds `text`."""
        number = self._numbers([name])[0]
        disk, facts = self.sim.replicas[number].disk, self.sim.facts
        found = 0
        for file in run(disk, _everything()):
            data = run(disk, _contents(file))
            at = data.find(text.encode())
            while at >= 0:
                found += 1
                run(disk, _overwrite(file, at, bytes(len(text))))
                at = data.find(text.encode(), at + 1)
        assert found, f"{name} does not hold {text!r}"
        lost = {checksum for checksum, prepare in facts.prepares.items() if text.encode() in prepare.payload}
        facts.disks[number].records -= lost
        facts.disks[number].is_damaged = True
        facts.disks[number].sound -= lost

    def rot_after_scan(self, name: str, text: str) -> None:
        """The same in the next boot of a replica, after the scan has found everything sound."""
        self.sim.actors[self._numbers([name])[0]].after_scan = lambda: self.rot(name, text)

    def reformat(self, name: str) -> None:
        """Replace the disk of a replica that is down by a new one, formatted with the old id."""
        replica = self.sim.replicas[self._numbers([name])[0]]
        assert not replica.is_up, f"{name} runs"
        replica.may_stop.add("identity_refused")  # It never gets a vote, and says so (PROTOCOL 7.6).
        number, size = replica.number, self.sim.shape.segment_size
        voters = tuple(other.number for other in self.sim.replicas)
        replica.disk = FakeDisk(number, self.sim.choices)
        job = format_directory(
            cluster=self.sim.cluster_id,
            replica=number,
            incarnation=b"another identity",
            voters=voters,
            segment_size=size,
        )
        run(replica.disk, job)
        image = run(replica.disk.remains(), Store(segment_size=size).look()).superblock
        self.sim.facts.disks[number] = DiskFacts(number, image)

    def upgrade(self, name: str, release: int, *, least: int) -> None:
        """Give a replica that is down another program, which knows the releases from `least` to `release`."""
        replica = self.replica(name).replica
        replica.options = attrs.evolve(replica.options, release=release, release_min=least)
        for known in self.sim.replicas:
            known.may_stop.add("upgrade_needed")  # Those of an earlier release, and they say so (PROTOCOL 11).

    def set_clock(self, name: str, seconds: int) -> None:
        """Let a replica's wall clock be `seconds` ahead."""
        self.sim.replicas[self._numbers([name])[0]].clock = WallClock(seconds * 1_000_000_000)

    def pause(self, *names: str) -> None:
        """Stop replicas from executing."""
        for number in self._numbers(names):
            self.sim.replicas[number].pause()

    def resume(self, *names: str) -> None:
        """Let paused replicas go on."""
        for number in self._numbers(names):
            self.sim.replicas[number].resume()

    def transfer(self) -> None:
        """Ask the primary to hand over."""
        self.sim.replicas[self._primary()].take(Transfer())

    def heal_partitions(self) -> None:
        """End every partition; what is done to single messages goes on."""
        self.sim.network.heal()

    def heal(self) -> None:
        """End every partition and rule; what was held back is lost."""
        self.sim.network.heal()
        self.sim.interceptions.clear()

    # --- Time -----------------------------------------------------------------------------------

    def run_until(self, condition: Callable[[], bool], what: str = "the condition") -> None:
        """Let time pass until `condition` holds."""
        if not self.sim.run_until(condition, self.sim.scheduler.now + PATIENCE):
            raise AssertionError(f"waited in vain for {what}\n{describe(self.sim.replicas, self.sim.clients)}")

    def run_for(self, ticks: int) -> None:
        """Let `ticks` of 10 ms pass."""
        self.sim.scheduler.run_until(self.sim.scheduler.now + ticks * TICK_US)

    @property
    def now(self) -> float:
        """Ticks since the beginning."""
        return self.sim.scheduler.now / TICK_US

    def await_primary(self, *names: str) -> str:
        """Wait until one of the named replicas, or any, leads; return its name."""
        numbers = self._numbers(names) if names else [replica.number for replica in self.sim.replicas]
        views = [ReplicaView(self.sim.replicas[number]) for number in numbers]
        self.run_until(lambda: any(view.is_primary for view in views), "a primary")
        return next(view.replica.name for view in views if view.is_primary)

    # --- Looking --------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The primary, then its backups from the one whose turn is next, by names that stay."""
        numbers = [replica.number for replica in self.sim.replicas]
        at = numbers.index(self._primary())
        return tuple(f"R{number}" for number in numbers[at:] + numbers[:at])

    @property
    def view_changes(self) -> int:
        """How often a replica entered a view."""
        return self.count("view_change_entered")

    def primaries(self) -> list[str]:
        """Who leads, or believes to."""
        return [view.replica.name for view in self._views() if view.is_primary]

    def replica(self, name: str) -> ReplicaView:
        """A replica by name."""
        return ReplicaView(self.sim.replicas[self._numbers([name])[0]])

    def count(self, event: str) -> int:
        """How often a trace event happened."""
        return self.sim.counts[event]

    def expect_same_state(self, *names: str) -> None:
        """The named replicas, or all, come to the same op and state; the clients' history holds."""
        numbers = self._numbers(names) if names else [replica.number for replica in self.sim.replicas]
        replicas = [self.sim.replicas[number] for number in numbers]
        self.run_until(lambda: has_converged(replicas), "equal applied ops")
        digests = {replica.machine.digest() for replica in replicas}
        assert len(digests) == 1, f"{len(digests)} states after the same op"
        check_history(self.sim.facts, self.sim.history, self.sim.executed.model)
        check_linearizability(self.sim.history)

    def _is_ready(self) -> bool:
        running = all(replica.core is not None for replica in self.sim.replicas)
        return running and all(view.state.status is Status.NORMAL and view.view > 0 for view in self._views())

    def _views(self) -> list[ReplicaView]:
        return [ReplicaView(replica) for replica in self.sim.replicas]

    def _primary(self) -> int:
        leading = [view for view in self._views() if view.is_primary]
        assert leading, "nobody leads now: name replicas by number (R0)"
        return max(leading, key=lambda view: view.view).replica.number

    def _numbers(self, names: Iterable[str]) -> list[int]:
        """R<n>: by number. A0: the primary. B1, B2, ...: the others, in order of number."""
        found: list[int] = []
        for name in names:
            index = int(name[1:])
            if name[0] == "R":
                found.append(index)
                continue
            primary = self._primary()
            backups = [replica.number for replica in self.sim.replicas if replica.number != primary]
            if name[0] == "A":
                assert index == 0, f"{name}: the primary is A0"
                found.append(primary)
            else:
                assert name[0] == "B", f"{name}: replicas are A0, B1.. and R0.."
                found.append(backups[index - 1])
        return found


def _everything() -> Job[tuple[str, ...]]:
    """The files of a disk's top folder and of its journal."""
    top = cast("tuple[str, ...]", (yield ListFiles("")))
    journal = cast("tuple[str, ...]", (yield ListFiles(LOG_FOLDER)))
    return (*top, *(f"{LOG_FOLDER}/{name}" for name in journal))


def _contents(file: str) -> Job[bytes]:
    return cast("bytes", (yield Read(file, 0, 1 << 30)))


def _overwrite(file: str, offset: int, data: bytes) -> Job[None]:
    yield Write(file, offset, data)
    yield Flush(file)
