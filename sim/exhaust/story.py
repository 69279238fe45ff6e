"""A way through a small world, told: its moves as the events of a story (`sim.explain`)."""

from __future__ import annotations

import attrs

from sim.exhaust.disk import Disk
from sim.exhaust.machine import Standing
from sim.exhaust.moves import Append, Ask, Crash, Deliver, Heartbeat, Image, Wished
from sim.exhaust.planting import planted_world
from sim.exhaust.step import Acting, Applies, Commits, Leads, Orders, Replies
from sim.exhaust.trace import Trace
from sim.exhaust.world import World
from sim.explain.builder import StoryBuilder
from sim.explain.model import Held, Kind, LaneKind, LogCell, Message, Story, Verdict
from sim.explain.words import describe
from sim.oracles.facts import Violation
from trio_pb.core.ports import Send
from trio_pb.core.replica import Replica
from trio_pb.errors import ConfigError

__all__ = ["tell_trace"]

MOVE_US = 1000  # Time stands still in a small world; here a move takes a millisecond, to have one after the other.


def tell_trace(trace: Trace, title: str, command: str) -> Story:
    """Go the way again and take it down.

    Raises:
        ConfigError: the code is another than when the trace was made: the way does not go on somewhere.
    """
    with planted_world(trace.size, trace.mutant) as world:
        return _Telling(trace, world, title, command).tell()


@attrs.define
class _Seat:
    """A replica in the course of the story."""

    lane: int
    standing: Standing
    led: int = 0  # The last view that it was told to lead.


class _Telling:
    def __init__(self, trace: Trace, world: World, title: str, command: str) -> None:
        self._trace = trace
        self._world = world
        self._builder = StoryBuilder(title, command)
        size = trace.size
        self._builder.notes += [
            f"{size.replicas} replicas, {size.requests} requests, {size.views} views, {size.crashes} crashes at most",
            "it begins when R1 leads view 1 and every client has its session, at op 1",
        ]
        self._builder.now = lambda: self._moved * MOVE_US
        self._moved = 0
        standings = [self._world.standings[number] for number in self._world.initial[:-2:2]]
        self._seats = [_Seat(self._builder.add_lane(f"R{it.replica}"), it, 1) for it in standings]
        clients = [self._builder.add_lane(f"C{client}", LaneKind.CLIENT) for client in range(size.requests)]
        ids = self._world.renamings[0].clients
        self._clients = dict(zip(ids, clients, strict=True))
        self._sent: dict[int, list[Message]] = {}  # By number at the post.
        self._asked: dict[int, int] = {}  # Client -> the event in which it first asked.

    def tell(self) -> Story:
        """Move by move, to the bitter end."""
        for traced in self._trace.moves:
            self._moved += 1
            move = traced.move(self._world)
            seat = self._seats[traced.replica]
            if move is None:
                raise ConfigError(f"move {self._moved} of the trace delivers what nobody sent: the code has changed")
            self._befalls(seat, move)
            machine = self._world.machines[traced.replica]
            before = seat.standing.disk
            try:
                acting = machine.act(seat.standing, move)
            except (Violation, AssertionError):
                break
            self._acts(seat, acting, before)
            outcome = machine.outcome(seat.standing, move)
            if outcome is not None:
                seat.standing = outcome.target
        rule, text = self._trace.rule, self._trace.text
        lanes = [seat.lane for seat in self._seats if f"R{seat.standing.replica}" in text]
        about = tuple(name for name in self._builder.names if f"{name} " in f"{text.replace(',', ' ')} ")
        return self._builder.finish(Verdict(rule, text), lanes=lanes, about=about)

    # --- What befalls a replica -------------------------------------------------------------------

    def _befalls(self, seat: _Seat, move: object) -> None:
        builder, name = self._builder, f"R{seat.standing.replica}"
        match move:
            case Deliver():
                post = self._world.post.messages[move.message]
                flying = self._sent[move.message]
                message = flying[0] if flying[0].ended is None else builder.repeat(flying[0])
                phrase, _ = describe(post.envelope, post.message, self._name)
                again = "" if message is flying[0] else ", once more"
                builder.arrive(message, f"{name} {phrase.heard.format(source=f'R{post.source}')}{again}")
            case Ask():
                client = list(self._clients.values())[move.client]
                what = f"C{move.client}'s request 1"
                event = builder.note(client, Kind.ASK, f"C{move.client} asks {name} for its request 1", about=(what,))
                (message,) = [builder.post(event, seat.lane, "request")]
                builder.arrive(message, f"{name} gets {what}")
            case Append():
                append = seat.standing.disk.appends[0]
                ops = tuple(f"op {prepare.op}" for prepare in append.prepares)
                what = ", ".join(ops) or "a proof"
                builder.note(seat.lane, Kind.DURABLE, f"{name}'s disk holds {what}", about=ops)
            case Image():
                assert seat.standing.disk.image is not None
                image = seat.standing.disk.image.image
                text = f"{name}'s disk holds view {image.view}, and the log of view {image.log_view}"
                builder.note(seat.lane, Kind.DURABLE, text, about=(f"view {image.view}",), view=image.view)
            case Heartbeat():
                builder.trigger(seat.lane, ())
            case Wished():
                text = f"{name} hears that the others wish for view {move.view}, and enters it"
                builder.trigger(seat.lane, ())
                builder.note(seat.lane, Kind.VIEW, text, about=(f"view {move.view}",), view=move.view)
            case Crash():
                kept = _kept(move, seat.standing.disk)
                builder.trigger(seat.lane, ())
                builder.note(seat.lane, Kind.CRASH, f"{name} loses power{kept}")
                builder.note(seat.lane, Kind.START, f"{name} starts again")
            case _:
                raise AssertionError(f"no such move: {move}")

    # --- What it does -------------------------------------------------------------------------------

    def _acts(self, seat: _Seat, acting: Acting, before: Disk) -> None:
        builder, name = self._builder, f"R{acting.number}"
        for it in acting.news:
            match it:
                case Leads() if it.view != seat.led:
                    seat.led = it.view
                    builder.note(seat.lane, Kind.PRIMARY, f"{name} leads view {it.view}", view=it.view)
                case Orders():
                    builder.note(
                        seat.lane,
                        Kind.PREPARE,
                        f"{name} makes op {it.op} of view {it.view}",
                        about=(f"op {it.op}",),
                        view=it.view,
                    )
                case Commits():
                    op = it.entry.op
                    builder.note(
                        seat.lane,
                        Kind.COMMIT,
                        f"{name} takes everything up to op {op} for committed",
                        about=(f"op {op}",),
                    )
                case Applies():
                    builder.note(seat.lane, Kind.APPLY, f"{name} executes op {it.op}", about=(f"op {it.op}",))
                case Replies():
                    lane = self._clients[it.client]
                    client = builder.lanes[lane].name
                    text = f"{client} hears from {name} that its request {it.number} was executed, at op {it.op}"
                    builder.note(lane, Kind.ANSWER, text, about=(f"op {it.op}",))
                case _:
                    pass
        for append in acting.disk.appends[len(before.appends) :]:
            ops = tuple(f"op {prepare.op}" for prepare in append.prepares)
            if ops:
                builder.note(seat.lane, Kind.APPEND, f"{name} hands {', '.join(ops)} to its disk", about=ops)
        for send in acting.sent:
            self._sends(seat, acting.number, send)
        builder.state(seat.lane, _fields(acting.replica), _cells(acting.replica))

    def _sends(self, seat: _Seat, replica: int, send: Send) -> None:
        posted = [(to, self._world.post.send(replica, to, send.envelope, send.message)) for to in send.replicas]
        new = [(to, number) for to, number in posted if number is not None and number not in self._sent]
        if not new:
            return
        phrase, facts = describe(send.envelope, send.message, self._name)
        to = " and ".join(f"R{it}" for it, _ in new)
        sent = self._builder.send(
            seat.lane,
            [self._seats[it].lane for it, _ in new],
            phrase.kind,
            f"R{replica} {phrase.said.format(to=to)}",
            about=phrase.about,
            view=send.envelope.view,
            facts=facts,
        )
        for (_, number), message in zip(new, sent, strict=True):
            self._sent[number] = [message]

    def _name(self, client: bytes, _session: int, number: int) -> str:
        lane = self._clients.get(client)
        name = self._builder.lanes[lane].name if lane is not None else "a client"
        return f"{name}'s request {number}" if number else f"{name}'s registration"


def _kept(move: Crash, disk: Disk) -> str:
    """What of the writes under way is there afterwards."""
    if not disk.appends and disk.image is None:
        return ""
    kept = [prepare.op for append in disk.appends[: move.kept.appends] for prepare in append.prepares]
    rest = zip(disk.appends[move.kept.appends :], move.kept.records, strict=True)
    kept += [prepare.op for append, is_kept in rest if is_kept for prepare in append.prepares]
    what = [f"op {op}" for op in kept] + (["the superblock"] if move.kept.image else [])
    return f"; of what was being written its disk has {', '.join(what) or 'nothing'}"


def _fields(replica: Replica) -> dict[str, str | int | bool | None]:
    report = replica.report()
    return {
        "status": report.status.name.lower().replace("_", " "),
        "role": "primary" if report.is_primary else "",
        "view": report.view,
        "log of view": report.log_view,
        "head": report.head,
        "committed": report.commit,
        "executed": report.applied,
    }


def _cells(replica: Replica) -> list[LogCell]:
    log, cells = replica.state.log, list[LogCell]()
    for op in range(log.base.op + 1, log.head + 1):
        checksum, body = log.checksum(op), log.body(op)
        held = Held.DURABLE if op <= log.durable_prefix else Held.MEMORY if log.hold(op) else Held.MISSING
        label = checksum.hex()[:4] if checksum is not None else "?"
        cells.append(LogCell(op, body.view if body is not None else 0, label, held, op <= replica.state.commit_max))
    return cells
