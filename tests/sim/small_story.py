"""A story of two replicas and a client, made by hand: an acknowledgement that a power cut undoes."""

from __future__ import annotations

from sim.explain.builder import StoryBuilder
from sim.explain.model import Held, Kind, LaneKind, LogCell, Story, Verdict

__all__ = ["small_story"]


class _Clock:
    now = 0


def small_story() -> Story:
    """R1 acknowledges what it only has in memory, loses its power, and R0 alone holds what was answered."""
    clock = _Clock()
    b = StoryBuilder("two replicas", "make it again", now=lambda: clock.now)
    b.notes.append("made by hand")
    r0, r1, c0 = b.add_lane("R0"), b.add_lane("R1"), b.add_lane("C0", LaneKind.CLIENT)

    def state(lane: int, role: str, held: Held, committed: int) -> None:
        cells = (LogCell(1, 1, "aaaa", held, committed > 0),)
        b.state(lane, {"status": "normal", "role": role, "view": 1, "committed": committed}, cells)

    b.note(r0, Kind.START, "R0 is up", view=1)
    b.note(r1, Kind.START, "R1 is up", view=1)
    for beat in range(3):
        clock.now = 1000 * (beat + 1)
        (ping,) = b.send(r0, (r1,), "ping", "R0 tells R1 how far it is", is_idle=True)
        clock.now += 500
        b.arrive(ping, "R1 hears how far R0 is")
    clock.now = 5_000
    b.note(c0, Kind.ASK, "C0 wants to place order 1")
    (request,) = b.send(c0, (r0,), "request", "C0 sends its order to R0", about=("order 1",))
    clock.now = 6_000
    b.arrive(request, "R0 gets C0's order")
    b.note(r0, Kind.PREPARE, "R0 makes op 1 of it", about=("op 1", "order 1"), view=1)
    (prepare,) = b.send(r0, (r1,), "prepare", "R0 sends op 1 to R1", about=("op 1",), view=1)
    state(r0, "primary", Held.DURABLE, 0)
    clock.now = 7_000
    b.arrive(prepare, "R1 gets op 1 from R0")
    state(r1, "backup", Held.MEMORY, 0)
    (lost, ok) = (
        b.send(r1, (r0,), "prepare_ok", "R1 acknowledges op 1: NOT durable", about=("op 1",), view=1)[0],
        b.send(r1, (r0,), "prepare_ok", "R1 acknowledges op 1 again: NOT durable", about=("op 1",), view=1)[0],
    )
    b.lose(lost)
    clock.now = 8_000
    b.arrive(ok, "R0 hears that R1 acknowledges op 1")
    b.note(r0, Kind.COMMIT, "R0 commits op 1", about=("op 1",), view=1)
    state(r0, "primary", Held.DURABLE, 1)
    b.note(b.world, Kind.FAULT, "the power fails")
    b.note(r1, Kind.CRASH, "R1 loses its power")
    b.state(r1, {"status": "down", "role": "", "view": 1})
    clock.now = 60_000
    b.note(r1, Kind.START, "R1 is up: its disk holds nothing", view=1)
    (late,) = b.send(r1, (r0,), "ping", "R1 tells R0 how far it is", is_idle=True)
    b.block(late)
    verdict = Verdict("held by a quorum", "op 1 is committed; R1 does not hold it")
    return b.finish(verdict, lanes=(r1,), about=("op 1",))
