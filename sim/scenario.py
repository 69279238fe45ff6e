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

import attrs

from sim.choices import Choices
from sim.client import SimClient
from sim.cluster import SimCluster
from sim.network import DropRule
from sim.oracles.linearizability import check_history
from sim.oracles.liveness import describe, has_converged
from sim.replica import SimReplica
from sim.scheduler import SECOND, TICK_US
from sim.shape import Shape
from sim.workload import Operation
from trio_pb.app.orders import (
    PLACE,
    READ,
    CustomerRecord,
    OrderReceipt,
    PlaceOrder,
    ReadCustomer,
    decode_receipt,
    decode_record,
    encode_place,
    encode_read,
)
from trio_pb.core.client_ports import Success
from trio_pb.core.messages import Status
from trio_pb.core.ports import Transfer
from trio_pb.core.state import State

__all__ = ["Answer", "Cluster", "ReplicaView"]

PATIENCE = 30 * SECOND  # Virtual time after which an expected thing counts as not happening.


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
    def commit(self) -> int:
        """Its commit point."""
        return self.state.commit_max

    @property
    def applied(self) -> int:
        """The highest op that it executed."""
        return self.state.applied


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

    def __init__(self, replicas: int = 3, seed: int = 1, shape: Shape | None = None) -> None:
        made = attrs.evolve(shape or Shape(), replicas=replicas, clients=0)
        # No recorded choices: whatever is not said in the scenario does not happen.
        self.sim = SimCluster(Choices(seed, {}), made)
        self._default: SimClient | None = None
        self._tokens = 0
        self.sim.start()
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

    def drop(self, *, kind: str | None = None, src: str | None = None, dst: str | None = None) -> None:
        """Drop messages of a class (by its name), from a replica, to a replica; None means any."""
        source = None if src is None else self._numbers([src])[0]
        destination = None if dst is None else self._numbers([dst])[0]
        self.sim.network.rules.append(DropRule(kind=kind, source=source, destination=destination))

    def crash(self, *names: str, power: bool = True) -> None:
        """Kill replicas at once; with `power` unflushed writes are at stake."""
        for replica in [self.sim.replicas[number] for number in self._numbers(names)]:
            replica.crash(power=power)

    def restart(self, *names: str) -> None:
        """Start replicas that are down, and wait until they have opened their storage."""
        replicas = [self.sim.replicas[number] for number in self._numbers(names)]
        for replica in replicas:
            replica.start()
        self.run_until(lambda: all(replica.core is not None for replica in replicas), "restarted replicas")

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

    def heal(self) -> None:
        """End every partition and rule."""
        self.sim.network.heal()

    # --- Time -----------------------------------------------------------------------------------

    def run_until(self, condition: Callable[[], bool], what: str = "the condition") -> None:
        """Let time pass until `condition` holds."""
        if not self.sim.run_until(condition, self.sim.scheduler.now + PATIENCE):
            raise AssertionError(f"waited in vain for {what}\n{describe(self.sim.replicas, self.sim.clients)}")

    def run_for(self, ticks: int) -> None:
        """Let `ticks` of 10 ms pass."""
        self.sim.scheduler.run_until(self.sim.scheduler.now + ticks * TICK_US)

    # --- Looking --------------------------------------------------------------------------------

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
