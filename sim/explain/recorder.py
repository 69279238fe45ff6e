"""Takes down a run of our own cluster: every piece of news becomes an event of its story.

It only looks. What it is told comes from the outside of the replicas (`sim.explain.recorded` has the
ears): outputs, completed storage work, messages at the network, operations of clients. What nobody tells
of, such as a partition that ends, is noticed with the next piece of news.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sim.cluster import SimCluster
from sim.explain.builder import StoryBuilder
from sim.explain.lanes import Lanes
from sim.explain.model import Held, Kind, LogCell, Value
from sim.explain.post import Post
from sim.explain.surroundings import Surroundings
from sim.explain.traces import Told, tell_trace
from sim.explain.words import describe, in_words, listed, ops, request_names
from sim.network import CLIENT_NODES, Payload
from sim.oracles.facts import DiskFacts
from trio_pb.core.durable import Superblock
from trio_pb.core.messages import CommitOk, DoViewChange, PrepareMessage, PrepareOk
from trio_pb.core.ports import Apply, Send, Start, ToClient, WalAppend
from trio_pb.core.prepare import Prepare
from trio_pb.core.state import State

__all__ = ["Recorder"]

LOG_CELLS = 12  # Newest ops of a log that are shown.
ABOUT_MAX = 8  # Names of one event.


class _Acked(NamedTuple):
    """How far a peer is known to hold the log of a view."""

    view: int
    op: int
    event: int


class _Seen:
    """What of a replica was noted last, to notice what changed."""

    def __init__(self) -> None:
        self.heard: list[int] = []  # Events since its last step: they are what it acts on.
        self.stepped = -1  # Time of that step.
        self.has_crashed = False
        self.up: int | None = None  # Event in which its storage was open.
        self.view = 0
        self.commit = 0
        self.acked: dict[int, _Acked] = {}  # By peer.
        self.appends: list[WalAppend] = []  # In flight.
        self.made: set[bytes] = set()  # Prepares that it was noted to have made.
        self.cells: tuple[LogCell, ...] = ()


class Recorder:
    """The story of one run, in the making."""

    def __init__(self, builder: StoryBuilder, cluster: SimCluster) -> None:
        """The cluster is being made: it has a shape and a clock, the rest comes before its first event."""
        self._builder = builder
        self._cluster = cluster
        builder.now = lambda: cluster.scheduler.now
        self._lanes = Lanes(builder)
        self._surroundings = Surroundings(builder, self._lanes, cluster)
        self.post = Post(builder, self._lanes, self._heard, self._is_listening)
        self._seen = {number: _Seen() for number in range(cluster.shape.replicas)}  # By replica.
        self._made_of: dict[str, int] = {}  # Request -> event in which an op was last made of it.
        for number in self._seen:
            self._lanes.add_replica(number)

    # --- Life ---------------------------------------------------------------------------------------

    def traced(self, event: Sequence[object]) -> None:
        """A replica or the world says what happens (`World.trace`)."""
        told = tell_trace(event)
        if told is None or (event[0] == "start" and not self._seen[told.replica or 0].has_crashed):
            return  # The first start of all is told when the disk is open.
        self.look_around()
        replica = told.replica
        if replica is None:
            self._builder.note(self._builder.world, told.kind, told.text, about=told.about)
            return
        lane, seen, is_start = self._lanes.of(replica), self._seen[replica], event[0] == "start"
        if told.kind is Kind.CRASH:
            told = self._with_stakes(replica, told)
        elif is_start:
            self._builder.trigger(lane, ())
        self._note_life(replica, told)
        if told.kind is Kind.CRASH or is_start:
            status = "opening its disk" if is_start else "down"
            self._builder.state(lane, {"status": status, "role": "", "view": seen.view}, seen.cells)

    def _note_life(self, replica: int, told: Told) -> None:
        """Note an event of a replica, as one with its last where both are one act."""
        lane = self._lanes.of(replica)
        events, up = self._builder.events, self._seen[replica].up
        last = events[-1] if events else None
        if up is not None and told.kind is Kind.START and events[up].time == self._cluster.scheduler.now:
            self._builder.retell(up, Kind.START, f"{events[up].text}; {told.text.partition(': ')[2]}")
            return
        if (
            last is not None
            and last.kind is Kind.INSTALL
            and told.kind in (Kind.PRIMARY, Kind.BACKUP)
            and (last.lane, last.time) == (lane, self._cluster.scheduler.now)
        ):
            self._builder.retell(last.id, told.kind, f"{told.text}: its log goes {last.text.rpartition(': ')[2]}")
            return
        self._builder.note(lane, told.kind, told.text, about=told.about, view=told.view)

    def _with_stakes(self, replica: int, told: Told) -> Told:
        """Say what was at stake in a crash."""
        seen = self._seen[replica]
        seen.has_crashed = True
        waiting = sorted({prepare.op for append in seen.appends for prepare in append.prepares})
        seen.cells = tuple(cell for cell in seen.cells if cell.held is Held.DURABLE)
        seen.heard, seen.appends = [], []
        return (
            told._replace(text=f"{told.text}; its disk was not done with {ops(waiting[0], waiting[-1])}")
            if waiting
            else told
        )

    def started(self, replica: int, start: Start) -> None:
        """Storage is open; the first step comes."""
        self.look_around()
        image = start.superblock
        records = sorted(record.op for record in start.scan.records)
        held = f"records of {ops(records[0], records[-1])}" if records else "no records"
        text = f"R{replica} is up: its disk holds view {image.view}, the log of view {image.log_view}, {held}"
        if image.checkpoint.op:
            text += f" and a checkpoint of op {image.checkpoint.op}"
        event = self._builder.note(
            self._lanes.of(replica), Kind.START, text, view=image.view, facts=_image_facts(image)
        )
        seen = self._seen[replica]
        seen.heard, seen.up = [event], event
        seen.view, seen.commit, seen.acked, seen.appends = image.view, image.commit.op, {}, []

    # --- Steps --------------------------------------------------------------------------------------

    def stepped(self, replica: int, state: State) -> None:
        """A replica took a step; its outputs come next."""
        self.look_around()
        seen, lane = self._seen[replica], self._lanes.of(replica)
        if seen.heard or seen.stepped != self._cluster.scheduler.now:
            # Nothing heard and no step in the same moment: a timer fired.
            self._builder.trigger(lane, seen.heard)
            seen.heard = []
        seen.stepped = self._cluster.scheduler.now
        if state.commit_max > seen.commit:
            self._note_commit(replica, seen, state)
        seen.view = state.view
        seen.cells = self._cells(replica, state)
        self._builder.state(lane, _fields(state), seen.cells)

    def sent(self, replica: int, send: Send) -> None:
        """A message leaves for peers."""
        if isinstance(send.message, PrepareMessage) and self._leads(replica, send.message.prepare):
            self._note_made(replica, send.message.prepare)
        phrase, facts = describe(send.envelope, send.message, self._lanes.request)
        said = phrase.said.format(to=listed(f"R{number}" for number in send.replicas))
        judgement, about = self._judge(replica, send)
        event = self._builder.note(
            self._lanes.of(replica),
            Kind.SEND,
            f"R{replica} {said}{judgement}",
            about=phrase.about or about,
            view=send.envelope.view,
            is_idle=phrase.is_idle,
            facts=facts,
        )
        self.post.announce(send.message, event)

    def answered(self, replica: int, output: ToClient) -> None:
        """An answer leaves for a client."""
        self.post.say(self._lanes.of(replica), None, output.message)

    def applied(self, replica: int, apply: Apply) -> None:
        """A state machine gets requests."""
        facts = self._cluster.facts
        prepare = facts.prepares.get(facts.committed[apply.op]) if apply.op < len(facts.committed) else None
        names = () if prepare is None else request_names(prepare, self._lanes.request)
        self._builder.note(
            self._lanes.of(replica),
            Kind.APPLY,
            f"R{replica} executes op {apply.op}: {in_words(names, 'requests', 'nothing')}",
            about=(f"op {apply.op}",),
            view=self._seen[replica].view,
        )

    def _note_commit(self, replica: int, seen: _Seen, state: State) -> None:
        first, last, view = seen.commit + 1, state.commit_max, state.view
        seen.commit = last
        about = tuple(f"op {op}" for op in range(max(first, last - ABOUT_MAX + 1), last + 1))
        causes: list[int] = []
        if state.is_primary:
            holders = [peer for peer, it in sorted(seen.acked.items()) if it.view == view and it.op >= last]
            causes = [seen.acked[peer].event for peer in holders]
            who = listed(f"R{peer}" for peer in holders) + " acknowledged it" if holders else "it is in its log"
            text = f"R{replica} commits {ops(first, last)}: {who}"
        else:
            text = f"R{replica} learns that {ops(first, last)} {'is' if first == last else 'are'} committed"
        self._builder.note(self._lanes.of(replica), Kind.COMMIT, text, about=about, view=view, causes=causes)

    def _note_made(self, replica: int, prepare: Prepare) -> None:
        """A primary made a prepare: it gives it to its peers and to its disk in the same step."""
        seen, lane = self._seen[replica], self._lanes.of(replica)
        if prepare.checksum in seen.made:
            return
        seen.made.add(prepare.checksum)
        names = request_names(prepare, self._lanes.request)
        came = (self.post.request_came(lane, name) for name in names)
        event = self._builder.note(
            lane,
            Kind.PREPARE,
            f"R{replica} makes op {prepare.op} of view {prepare.view} of {in_words(names, 'requests', 'no request')}",
            about=(f"op {prepare.op}", *names)[:ABOUT_MAX],
            view=prepare.view,
            causes=[event for event in came if event is not None],
            # Made before? Then this may be a second execution in the making.
            context=[self._made_of[name] for name in names if name in self._made_of],
        )
        self._made_of.update(dict.fromkeys(names, event))

    def _judge(self, replica: int, send: Send) -> tuple[str, tuple[str, ...]]:
        """Whether the disk holds what a message promises, as a power cut would leave it now, and what that is about."""
        disk, message, facts = self._disk(replica), send.message, self._cluster.facts
        if isinstance(message, PrepareOk | CommitOk) and message.acked is not None:
            # An op that nobody ever saw is on no disk.
            held = message.acked.checksum in facts.prepares and facts.holds_chain(disk, message.acked)
            if not held:
                return f": NOT durable on R{replica}'s disk", (f"op {message.acked.op}",)
            return f": durable on R{replica}'s disk" if isinstance(message, PrepareOk) else "", ()
        if isinstance(message, DoViewChange) and disk.superblock.view < send.envelope.view:
            return f": view {send.envelope.view} is NOT on R{replica}'s disk", ()
        return "", ()

    # --- Disks --------------------------------------------------------------------------------------

    def appended(self, replica: int, append: WalAppend) -> None:
        """Prepares go to a disk."""
        self._seen[replica].appends.append(append)
        for prepare in append.prepares:
            if self._leads(replica, prepare):
                self._note_made(replica, prepare)
            else:
                text = f"R{replica} takes op {prepare.op} of view {prepare.view} into its log and gives it to its disk"
                self._builder.note(
                    self._lanes.of(replica), Kind.APPEND, text, about=(f"op {prepare.op}",), view=prepare.view
                )

    def append_durable(self, replica: int, sequence: int) -> None:
        """All appends up to `sequence` are durable."""
        seen = self._seen[replica]
        done = [append for append in seen.appends if append.sequence <= sequence]
        seen.appends = [append for append in seen.appends if append.sequence > sequence]
        held = sorted((prepare.op, prepare.view) for append in done for prepare in append.prepares)
        proof = next((append.proof for append in reversed(done) if append.proof is not None), None)
        if held:
            what = f"{ops(held[0][0], held[-1][0])}: a power cut would not take it any more"
            self._durable(replica, what, tuple(f"op {op}" for op, _ in held)[:ABOUT_MAX], held[-1][1])
        elif proof is not None:
            what = f"the promise that everything up to op {proof.acked} is durable"
            self._durable(replica, what, (f"op {proof.acked}",), proof.log_view)

    def image_durable(self, replica: int, before: Superblock, after: Superblock) -> None:
        """A superblock image is durable."""
        if (before.view, before.log_view) != (after.view, after.log_view):
            what = f"view {after.view} and the log of view {after.log_view}"
            event = self._durable(replica, what, (f"view {after.view}",), after.view)
            self._builder.events[event].facts = _image_facts(after)

    def disk_fault(self, replica: int, what: str) -> None:
        """A disk does what no disk should."""
        self.look_around()
        self._builder.note(self._lanes.of(replica), Kind.FAULT, f"R{replica}'s disk: {what}")

    def _durable(self, replica: int, what: str, about: tuple[str, ...], view: int) -> int:
        self.look_around()
        lane = self._lanes.of(replica)
        self._builder.trigger(lane, ())
        event = self._builder.note(lane, Kind.DURABLE, f"R{replica}'s disk holds {what}", about=about, view=view)
        self._seen[replica].heard.append(event)
        return event

    # --- Messages -----------------------------------------------------------------------------------

    def arrived(self, source: int, destination: int, payload: Payload) -> None:
        """A message is at the door of its receiver."""
        self.look_around()
        self.post.arrived(source, destination, payload)

    def _heard(self, source: int, replica: int, payload: Payload, event: int) -> None:
        """A replica heard something: it acts on it in its next step."""
        seen, envelope, message = self._seen[replica], payload.envelope, payload.message
        seen.heard.append(event)
        if envelope is None or source >= CLIENT_NODES or not isinstance(message, PrepareOk | CommitOk):
            return
        known, acked = seen.acked.get(source), message.acked
        if acked is not None and (known is None or (known.view, known.op) < (envelope.view, acked.op)):
            seen.acked[source] = _Acked(envelope.view, acked.op, event)

    # --- Looking ------------------------------------------------------------------------------------

    def look_around(self) -> None:
        """Notice what nobody tells of."""
        self._surroundings.look()

    def _cells(self, replica: int, state: State) -> tuple[LogCell, ...]:
        log, disk, facts = state.log, self._disk(replica), self._cluster.facts
        cells: list[LogCell] = []
        for op in range(max(log.base.op + 1, log.head - LOG_CELLS + 1), log.head + 1):
            checksum = log.checksum(op)
            body = log.body(op)
            prepare = body if body is not None or checksum is None else facts.prepares.get(checksum)
            if checksum is not None and checksum in disk.records:
                held = Held.DURABLE
            else:
                held = Held.MISSING if checksum is None or body is None else Held.MEMORY
            label = "?" if checksum is None else checksum.hex()[:4]
            cells.append(LogCell(op, 0 if prepare is None else prepare.view, label, held, op <= state.commit_max))
        return tuple(cells)

    def _disk(self, replica: int) -> DiskFacts:
        return self._cluster.facts.disks[replica]

    def _leads(self, replica: int, prepare: Prepare) -> bool:
        by = self._cluster.replicas[replica]
        return by.is_primary and prepare.view == by.view

    def _is_listening(self, destination: int, payload: Payload) -> bool:
        if destination >= CLIENT_NODES:
            return True
        replica = self._cluster.replicas[destination]
        return replica.core is not None and (not payload.connection or payload.connection in replica.connections)


def _fields(state: State) -> dict[str, Value]:
    role = "primary" if state.is_primary else "backup" if state.is_backup else ""
    return {
        "status": state.status.name.lower().replace("_", " "),
        "role": role,
        "view": state.view,
        "durable view": state.durable_view,
        "log of view": state.log_view,
        "head": state.log.head,
        "committed": state.commit_max,
        "applied": state.applied,
        "acknowledged": state.acked,
        "checkpoint": state.checkpoint.op,
    }


def _image_facts(image: Superblock) -> dict[str, Value]:
    install = image.install
    return {
        "view": image.view,
        "log_view": image.log_view,
        "boot": image.boot,
        "commit": image.commit.op,
        "install": f"log from op {install.base.op} to op {install.head}",
        "ack_floor": install.ack_floor,
        "proof_base": install.proof_base,
        "checkpoint": image.checkpoint.op,
    }
