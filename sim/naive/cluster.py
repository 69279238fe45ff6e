"""The world of the teaching protocol: the simulator's time, network and choices around cores of another kind.

Everything that a script does here is a choice of the run, and so is what the network does to messages and
what bystanders order. A recorded run can therefore be cut down to what matters like any other.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TypeAlias, cast

import attrs

from sim.choices import Choices, latency_of
from sim.explain.flights import ListeningNetwork
from sim.naive.client import NaiveClient
from sim.naive.judges import NO_PROGRESS, Call, Judge
from sim.naive.ports import (
    Apply,
    ClientMessage,
    Input,
    Output,
    PeerMessage,
    Receive,
    Redirect,
    Reply,
    Save,
    Saved,
    Send,
    ServerMessage,
    Start,
    Tick,
    ToClient,
)
from sim.naive.replica import Replica
from sim.naive.told import NaiveStory
from sim.narration import Narration
from sim.network import CLIENT_NODES, Network, NetworkFaults, Payload
from sim.oracles.facts import violate
from sim.scheduler import TICK_US, Scheduler
from sim.telling import take_teller
from trio_pb.core.messages import Envelope
from trio_pb.core.messages import PeerMessage as RealPeerMessage

__all__ = ["NOISE", "NaiveCluster"]

AnyMessage: TypeAlias = "PeerMessage | ClientMessage | ServerMessage"

REPLICAS = 3
NOISE = NetworkFaults(loss=0.02, duplication=0.02, spike=0.04, spike_max=40_000)
BYSTANDERS = 2
BYSTANDER_ORDERS_MAX = 6
BYSTANDER_THINK_US = 30_000
BYSTANDER_CUSTOMER = 100
PATIENCE_TICKS = 300
SETTLE_TICKS = 3000


@attrs.define(eq=False)
class Node:
    """One machine: its disk, and the process on it while it runs."""

    number: int
    saved: Saved = attrs.field(factory=Saved)
    core: Replica | None = None
    boot: int = 0
    wake_tick: int | None = None

    @property
    def name(self) -> str:
        """`R0`."""
        return f"R{self.number}"

    @property
    def leads(self) -> bool:
        """Whether it runs and takes itself for the primary."""
        return self.core is not None and self.core.is_primary


class NaiveCluster:
    """Three replicas of one kind, and what a script can do to them (`scripts.ScriptedCluster`)."""

    def __init__(self, choices: Choices, kind: type[Replica], *, noisy: bool = False) -> None:
        """`noisy`: the network is bad, and bystanders order laptops of their own."""
        self.choices = choices
        self.scheduler = Scheduler()
        self.narration = Narration(lambda: self.scheduler.now)
        self.counts: Counter[str] = Counter()
        self.happened = 0  # All that reached a replica or a client, and every fault.
        self.events: list[tuple[object, ...]] = []  # The same, and what replicas executed.
        self.steps = 0
        self.trace_digest = 0
        self.nodes = [Node(number) for number in range(REPLICAS)]
        self.judge = Judge(REPLICAS, lambda number: self.nodes[number].leads)
        teller = take_teller()
        self._story = None if teller is None else NaiveStory(teller.builder, lambda: self.scheduler.now, REPLICAS)
        make_network = (
            Network if self._story is None else partial(ListeningNetwork, self._story.flights, self._story.departs)
        )
        self.network = make_network(
            choices,
            self.scheduler,
            NOISE if noisy else NetworkFaults(),
            cluster=b"",
            codec=False,
            arrive=self._arrive,
            broken=self._broken,
        )
        self.clients: list[NaiveClient] = []
        self.calls: list[Call] = []
        self._kind = kind
        self._default: NaiveClient | None = None
        self._done: Counter[str] = Counter()  # How often a script did a thing, for the keys of its choices.
        self._doomed_replies = 0
        for node in self.nodes:
            self._start(node)
        if noisy:
            for index in range(BYSTANDERS):
                self._add_bystander(index)

    # --- For scripts: clients -------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """R0, which leads from the start, and its backups."""
        return tuple(node.name for node in self.nodes)

    def order(self, laptop: str, *, customer: int = 1, via: str | None = None) -> Call:
        """Order a laptop; `via` names the only replica that this client can reach."""
        if not self._does(f"order {laptop}"):
            return Call("nobody", 0, customer, laptop, ended=0)
        client = self._client(via)
        self.narration.tell(f"{client.name} orders {laptop} for customer {customer}{_at(via)}")
        return self._submit(client, customer, laptop)

    def read(self, customer: int = 1, *, via: str | None = None) -> Call:
        """Read a customer's orders."""
        if not self._does(f"read {customer}"):
            return Call("nobody", 0, customer, None, ended=0)
        client = self._client(via)
        self.narration.tell(f"{client.name} reads customer {customer}{_at(via)}")
        return self._submit(client, customer, None)

    def await_answer(self, call: Call, ticks: int = PATIENCE_TICKS) -> None:
        """Wait for an answer, at most so long."""
        if not self._run_until(lambda: call.is_answered, ticks):
            self.narration.tell(f"no answer to {call.text} within {ticks * TICK_US // 1000} ms")

    def lose_next_reply(self) -> None:
        """Lose the next answer of a replica on its way to its client."""
        if self._does("lose the next reply"):
            self._doomed_replies += 1
            self.narration.tell("the next answer to a client will be lost")

    # --- For scripts: faults --------------------------------------------------------------------

    def isolate(self, name: str) -> None:
        """Cut a replica off from all others; clients still reach it."""
        if self._does(f"isolate {name}"):
            self.network.block([self._number(name)], range(REPLICAS))
            self._note(f"{name} is cut off from the other replicas")

    def cut(self, one: str, other: str) -> None:
        """Cut one link."""
        if self._does(f"cut {one} {other}"):
            self.network.block([self._number(one)], [self._number(other)])
            self._note(f"the link between {one} and {other} is cut")

    def heal(self) -> None:
        """Mend every link."""
        if self._does("heal"):
            self.network.blocked.clear()
            self._note("every link works again")

    def crash(self, *names: str) -> None:
        """Kill replicas at once."""
        for name in names:
            node = self.nodes[self._number(name)]
            if node.core is not None and self._does(f"crash {name}"):
                node.core = None
                self.judge.crashed(node.number)
                self.counts["crashes"] += 1
                self._note(f"{name} crashes", is_of_network=False)
                if self._story is not None:
                    self._story.crashed(node)

    def restart(self, *names: str) -> None:
        """Start replicas that are down."""
        for name in names:
            node = self.nodes[self._number(name)]
            if node.core is None and self._does(f"restart {name}"):
                self._note(f"{name} starts again", is_of_network=False)
                self._start(node)

    # --- For scripts: time ----------------------------------------------------------------------

    def run_for(self, ticks: int) -> None:
        """Let time pass."""
        self.scheduler.run_until(self.scheduler.now + ticks * TICK_US)

    def await_primary(self, *names: str) -> str:
        """Wait until one of these replicas leads, at most for a while; return its name."""
        nodes = [self.nodes[self._number(name)] for name in names]
        if self._run_until(lambda: any(node.leads for node in nodes), PATIENCE_TICKS):
            return next(node.name for node in nodes if node.leads)
        return names[0]

    def settle(self) -> None:
        """Mend everything, start everyone, and wait until all is answered and executed everywhere.

        Raises:
            Violation: it does not come to that, or something acknowledged is not there.
        """
        self.network.heal()
        if self._story is not None:
            self._story.happens("everything is mended and started again", is_harm=False)
        for node in self.nodes:
            if node.core is None:
                self._start(node)
        self.narration.tell("everything is mended and started again")
        if not self._run_until(self._is_quiet, SETTLE_TICKS):
            waiting = ", ".join(call.text for call in self.calls if not call.is_answered)
            violate(NO_PROGRESS, f"the cluster does not come to rest; no answer to: {waiting or 'nothing'}")
        self.judge.finish()
        self.narration.held("every request is answered, and all replicas have executed the same")

    # --- Replicas -------------------------------------------------------------------------------

    def _start(self, node: Node) -> None:
        node.core = self._kind(node.number, REPLICAS)
        node.boot += 1
        node.wake_tick = None
        if self._story is not None:
            self._story.started(node)
        self.judge.started(node.number)
        self._step(node, Start(node.saved))

    def _step(self, node: Node, item: Input) -> None:
        core = node.core
        assert core is not None
        log_view = core.log_view
        outputs = core.step(self.scheduler.now // TICK_US, [item])
        self.steps += 1
        if core.log_view > log_view and type(item) is not Start:
            self._note_view(node, core)
        for output in outputs:
            self._carry_out(node, output)
        if self._story is not None:
            self._story.stepped(node, core)
        self.judge.stepped(node.number)
        self._plan_wake(node, core)

    def _note_view(self, node: Node, core: Replica) -> None:
        if self._story is not None:
            self._story.changed_view(node, core)
        if core.is_primary:
            self.counts["became_primary"] += 1
            self.narration.tell(f"{node.name} leads view {core.view}")
        else:
            self.narration.tell(f"{node.name} follows R{core.primary} into view {core.view}")

    def _carry_out(self, node: Node, output: Output) -> None:
        if type(output) is Send:
            self._send(node.number, output.destination, output.message, self._envelope(node, output.message))
        elif type(output) is ToClient:
            self._to_client(node, output)
        elif type(output) is Apply:
            self._trace_only("apply", node.name, output.position, output.entry.laptop)
            if self._story is not None:
                self._story.applied(node, output.position, output.entry)
            if not self._call(output.entry.client, output.entry.number).is_bystander:
                self.narration.tell(f"{node.name} executes {output.entry.laptop}, order {output.position} of its log")
            self.judge.applied(node.number, output.entry.laptop)
        else:
            assert type(output) is Save
            if self._story is not None:
                self._story.saved(node, output.saved)
            node.saved = output.saved

    def _to_client(self, node: Node, output: ToClient) -> None:
        message = output.message
        if type(message) is Reply:
            call = self._call(output.client, message.number)
            if call.laptop is not None:
                self.judge.replied(node.number, message.position, call.laptop)
            if self._doomed_replies:
                self._doomed_replies -= 1
                self._note(f"{node.name}'s answer to {call.text} is lost")
                return
        self._send(node.number, output.client, message, None)

    def _plan_wake(self, node: Node, core: Replica) -> None:
        if node.wake_tick is None or node.wake_tick > core.due_tick:
            node.wake_tick = core.due_tick
            self.scheduler.at(core.due_tick * TICK_US, self._wake, node, node.boot, core.due_tick)

    def _wake(self, node: Node, boot: int, tick: int) -> None:
        core = node.core
        if core is None or node.boot != boot or node.wake_tick != tick:
            return
        node.wake_tick = None
        if core.due_tick <= tick:
            self._trace("timeout", node.name)
            if self._story is not None:
                self._story.timed_out(node)
            self._step(node, Tick())
        else:
            self._plan_wake(node, core)

    # --- Messages -------------------------------------------------------------------------------

    def _envelope(self, node: Node, message: PeerMessage) -> Envelope:
        """What a message is about, so that its fate is drawn by that."""
        view = message.view
        op = getattr(message, "position", 0)
        commit = getattr(message, "beat", 0)
        return Envelope(
            cluster=b"",
            replica=node.number,
            incarnation=b"",
            boot=0,
            epoch=0,
            view=view,
            op=op,
            commit=commit,
            release=0,
        )

    def _send(self, source: int, destination: int, message: AnyMessage, envelope: Envelope | None) -> None:
        # The network carries objects here and looks at nothing but their class: other classes are fine.
        payload = Payload(cast("RealPeerMessage", message), envelope, 0)
        self.network.send(source, destination, payload)

    def _ask(self, client: int, replica: int, message: ClientMessage) -> None:
        self._send(client, replica, message, None)

    def _arrive(self, source: int, destination: int, payload: Payload) -> None:
        message = cast("AnyMessage", payload.message)
        if self._story is not None:
            is_heard = destination >= CLIENT_NODES or self.nodes[destination].core is not None
            self._story.arrives(destination, payload, heard=is_heard)
        if destination >= CLIENT_NODES:
            assert isinstance(message, Reply | Redirect)
            self._trace("hears", destination, source, message)
            self.clients[destination - CLIENT_NODES].hear(source, message)
            return
        node = self.nodes[destination]
        if node.core is None:
            return
        assert not isinstance(message, Reply | Redirect)
        self._trace("receives", node.name, source, message)
        self._step(node, Receive(source, message))

    def _broken(self, source: int, destination: int, connection: int) -> None:
        raise AssertionError("nothing goes by streams here")

    # --- Clients --------------------------------------------------------------------------------

    def _submit(self, client: NaiveClient, customer: int, laptop: str | None) -> Call:
        call = client.submit(customer, laptop)
        self.calls.append(call)
        return call

    def _submit_later(self, client: NaiveClient, customer: int, laptop: str) -> None:
        self._submit(client, customer, laptop)

    def _call(self, node: int, number: int) -> Call:
        name = self.clients[node - CLIENT_NODES].name
        return next(call for call in self.calls if (call.client, call.number) == (name, number))

    def _asked(self, call: Call, replica: int) -> None:
        if call.begun == 0 and self._story is not None:
            self._story.asks(call, self._node_of(call))
        if call.begun == 0:
            self.judge.asked(call)
        elif not call.is_bystander:
            self.narration.tell(f"{call.client} asks again, at R{replica}")

    def _answered(self, call: Call, replica: int, reply: Reply) -> None:
        if self._story is not None:
            self._story.answered(call, self._node_of(call), reply)
        if not call.is_bystander:
            heard = ", ".join(reply.laptops) or "nothing"
            self.narration.tell(f"{call.client} hears the answer to {call.text}: {heard}")
        self.judge.answered(call, replica, reply.laptops)

    def _client(self, via: str | None) -> NaiveClient:
        if via is None:
            if self._default is None:
                self._default = self._add_caller()
            return self._default
        client = self._add_caller()
        client.target = self._number(via)
        self.network.block([client.node], [number for number in range(REPLICAS) if number != client.target])
        return client

    def _add_caller(self) -> NaiveClient:
        """A client of the script."""
        return self._add_client(f"C{sum(1 for client in self.clients if client.name.startswith('C'))}")

    def _add_client(self, name: str) -> NaiveClient:
        node = CLIENT_NODES + len(self.clients)
        client = NaiveClient(node, name, REPLICAS, self.scheduler, self._ask, self._asked, self._answered)
        self.clients.append(client)
        if self._story is not None:
            self._story.client(node, name)
        return client

    def _node_of(self, call: Call) -> int:
        return next(client.node for client in self.clients if client.name == call.client)

    def _add_bystander(self, index: int) -> None:
        client = self._add_client(f"bystander {index}")
        time = 0
        for number in range(BYSTANDER_ORDERS_MAX):
            key = ("bystander", index, number)
            time += latency_of(self.choices.bits(("think", *key)), 1000, BYSTANDER_THINK_US)
            if self.choices.flag(key, 0.9):
                laptop = f"another-{index}-{number}"
                self.scheduler.at(time, self._submit_later, client, BYSTANDER_CUSTOMER + index, laptop)

    # --- Inside ---------------------------------------------------------------------------------

    def _does(self, what: str) -> bool:
        """Whether a step of the script is taken: always, unless a recorded run left it out."""
        self._done[what] += 1
        return self.choices.flag(("script", what, self._done[what]), 1.0)

    def _note(self, text: str, *, is_of_network: bool = True) -> None:
        """A script does something to the network, or to a machine, of which its story tells by itself."""
        self._trace("fault", text)
        self.narration.tell(text)
        if self._story is not None and is_of_network:
            self._story.happens(text, is_harm=bool(self.network.blocked) or "lost" in text)

    def _trace(self, *event: object) -> None:
        self.happened += 1
        self._trace_only(*event)

    def _trace_only(self, *event: object) -> None:
        entry = (self.scheduler.now, *event)
        self.trace_digest = zlib.crc32(repr(entry).encode(), self.trace_digest)
        self.events.append(entry)

    def _number(self, name: str) -> int:
        return int(name[1:])

    def _run_until(self, condition: Callable[[], bool], ticks: int) -> bool:
        """Let time pass, event by event, until `condition` holds; whether it came to that."""
        limit = self.scheduler.now + ticks * TICK_US
        while not condition():
            due = self.scheduler.next_time
            if due is None or due > limit:
                self.scheduler.run_until(limit)
                return condition()
            self.scheduler.step()
        return True

    def _is_quiet(self) -> bool:
        cores = [node.core for node in self.nodes if node.core is not None]
        lengths = {len(core.log) for core in cores} | {core.executed for core in cores}
        return all(call.is_answered for call in self.calls) and len(lengths) == 1


def _at(via: str | None) -> str:
    return "" if via is None else f", at {via}, the only replica that it reaches"
