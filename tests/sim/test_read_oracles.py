"""The oracles on reads and on doubts, asked with doctored facts."""

from __future__ import annotations

from sim.oracles.facts import Facts
from sim.oracles.read_promises import PositionsAreOwn, ReadsAreConfirmed, ReadsAreFresh
from sim.oracles.stability import HeardIsNotSilent
from tests.sim.oracle_world import ONE, VIEW, World, fresh_state, image, prepare_ok, violates
from trio_pb.app.orders import READ
from trio_pb.core import messages as m
from trio_pb.core.config import Timeouts
from trio_pb.core.durable import Scan
from trio_pb.core.ports import Start, ToClient

PRIMARY = VIEW  # Of three replicas, that of view 1.
QUESTION = m.Read(bytes(16), 7, READ, b"", m.ReadMode.LINEARIZABLE, 0, b"")
PATIENCE = Timeouts().suspect_ticks


def answer(w: World, *, op: int, replica: int = PRIMARY) -> None:
    """A replica answers the question from the state after `op`."""
    w.watch.to_client(replica, ToClient(1, m.Reply(bytes(16), 0, 7, op, VIEW, 0, False, b"")))


def test_inv_23_answer_older_than_the_question() -> None:
    """What anybody took for committed when the question came, the answer shows."""
    w = World(ReadsAreFresh)
    w.watch.from_client(PRIMARY, QUESTION)
    w.commit(0, ONE)
    answer(w, op=0)  # It came before.
    w.watch.from_client(2, QUESTION)
    answer(w, op=1, replica=2)
    with violates("INV-23"):
        answer(w, op=0, replica=2)


def test_inv_23_answer_that_nobody_vouched_for() -> None:
    """One of three must have spoken in the view after the question came, beside its primary."""
    w = World(ReadsAreConfirmed)
    w.send(2, prepare_ok(ONE))
    w.watch.from_client(PRIMARY, QUESTION)
    w.send(PRIMARY, prepare_ok(ONE))
    w.send(2, prepare_ok(ONE), view=VIEW + 1)  # Another view begins: its primary is 2, and alone in it so far.
    with violates("INV-23"):
        answer(w, op=0)
    w.send(2, prepare_ok(ONE))
    answer(w, op=0)


def test_inv_23_answer_from_another_boots_position() -> None:
    """What an earlier boot was told, or this one before the question came, tells nothing about the question (T-38)."""
    w = World(PositionsAreOwn)
    boot = image(2).boot + 1
    w.watch.start(2, Start(image(2), Scan(None, True, ()), None), Scan(None, True, ()))
    w.watch.step(2, fresh_state())
    w.send(PRIMARY, m.ReadIndexOk(boot, 1, 0))
    w.watch.from_client(2, QUESTION)
    w.send(PRIMARY, m.ReadIndexOk(boot - 1, 7, 0))
    with violates("INV-23"):
        answer(w, op=0, replica=2)
    w.send(PRIMARY, m.ReadIndexOk(boot, 2, 0))
    answer(w, op=0, replica=2)


def test_inv_34_heard_is_not_silent() -> None:
    """Whoever answered a heartbeat may call its sender silent only after some silence."""

    def make(facts: Facts) -> HeardIsNotSilent:
        return HeardIsNotSilent(facts, Timeouts())

    def at(tick: int) -> None:
        state = fresh_state()
        state.now_tick = tick
        w.watch.step(2, state)

    w = World(make)
    at(10)
    w.send(2, m.CommitOk(0, None, m.GENESIS_CHECKPOINT, m.NO_PROBE, fit=True))
    silent = m.StartViewChange(VIEW + 1, m.ViewChangeReason.PRIMARY_SILENT, sanctioned=False)
    at(9 + PATIENCE)
    w.send(2, silent, view=VIEW + 1)  # In another view.
    w.send(2, m.StartViewChange(VIEW + 1, m.ViewChangeReason.NO_PROGRESS, sanctioned=False))
    with violates("INV-34"):
        w.send(2, silent)
    at(10 + PATIENCE)
    w.send(2, silent)
