"""Handing over leadership on a graceful stop (PROTOCOL 11)."""

from __future__ import annotations

from tests.core.bench import Bench, chain, disk_of, primary, statement
from trio_pb.core.messages import Commit, PrepareMessage, Reject, RejectCode, StartViewChange
from trio_pb.core.ports import Transfer, TransferDone


def done(bench: Bench) -> list[bool]:
    """What the operator was told."""
    return [output.handed_over for output in bench.given(TransferDone)]


def test_11_waits_until_another_holds_everything_then_names_its_view() -> None:
    """Drained, then one last heartbeat with the commit point, then a sanctioned wish for the successor's view."""
    a = primary()
    a.tick()
    a.pong(1, 2)
    a.request(0, code=1)
    a.clear()
    a.step(Transfer())
    assert not a.sent(StartViewChange)
    a.ack(2)
    assert a.sent(Commit)[-1].commit_checksum == a.checksum_at(1)
    assert [(wish.target, wish.sanctioned) for wish in a.sent(StartViewChange)] == [(1026, True)]
    assert a.has_abdicated()
    assert not done(a)
    a.hear_start_view([body for body in [a.replica.state.log.body(1)] if body is not None], view=1026, base=1)
    assert done(a) == [True]


def test_11_admission_is_closed_meanwhile() -> None:
    """New requests are busy; nothing new is ordered."""
    a = primary()
    session = a.register()
    a.tick()
    a.pong(1, 2)
    a.request(1, session=session)
    a.step(Transfer())
    a.clear()
    a.request(2, session=session)
    assert not a.sent(PrepareMessage)
    assert [answer.code for answer in a.told() if isinstance(answer, Reject)] == [RejectCode.BUSY]


def test_11_the_backup_follows_at_once() -> None:
    """The successor needs no T_SUSPECT: the sanctioned wish and its own are a quorum."""
    b = Bench(disk_of(2))
    b.hear_wish(0, 1026, sanctioned=True)
    assert b.view == 1026
    b.hear_statement(0, statement([], log_view=1024))
    assert b.leads()


def test_11_nobody_to_hand_to() -> None:
    """Alone, or with nobody alive and fit: told at once, and it leads on."""
    for bench in (primary(voters=1), primary(log=chain(1), commit=1)):
        bench.step(Transfer())
        assert done(bench) == [False]
        assert bench.leads()


def test_11_a_backup_has_nothing_to_hand_over() -> None:
    """Told at once."""
    b = Bench(disk_of(1))
    b.step(Transfer())
    assert done(b) == [False]


def test_11_gives_up_after_its_time() -> None:
    """Nobody catches up in 100 ticks: it says so, and goes on leading and admitting."""
    a = primary()
    a.request(0, code=1)
    a.tick()
    a.pong(1, 2)
    a.step(Transfer())
    for _ in range(21):
        a.run(5)
        a.answer_heartbeat(1, 2)
    assert done(a) == [False]
    assert a.leads()
    a.commit_all()
    a.request(0, by=2, code=1)
    assert a.head == 2


def test_11_a_view_change_of_others_ends_it_too() -> None:
    """If the others moved by themselves, leadership is handed over all the same."""
    a = primary(log=chain(1))
    a.tick()
    a.pong(1, 2)
    a.step(Transfer())
    a.hear_start_view(chain(1), view=1025)
    assert done(a) == [True]


def test_11_asked_twice_it_answers_once() -> None:
    """One hand-over is under way; its end answers both."""
    a = primary(log=chain(1))
    a.tick()
    a.pong(1, 2)
    a.step(Transfer())
    a.step(Transfer())
    a.hear_start_view(chain(1), view=1025)
    assert done(a) == [True]
