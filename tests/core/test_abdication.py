"""A primary lets go of its view, and patience returns (PROTOCOL 6.1, 6.2)."""

from __future__ import annotations

import pytest

from tests.core.bench import GENESIS, chain, primary
from tests.core.between_views import in_view_change, wishes
from trio_pb.core.messages import Commit, PrepareMessage, StartViewChange

# --- 6.1 Letting go ------------------------------------------------------------------------------------------


def test_6_1_t_cq_a_primary_without_answers_abdicates() -> None:
    """T_CQ: nobody answers for 40 ticks."""
    a = primary()
    a.run(40)
    assert not a.has_abdicated()
    a.run(5)
    assert a.has_abdicated()
    assert wishes(a)


@pytest.mark.parametrize("answer", ["pong", "commit_ok", "prepare_ok"])
def test_6_1_t_cq_any_answer_of_this_view_counts(answer: str) -> None:
    """Pong, commit_ok and prepare_ok show that we are heard."""
    a = primary(log=chain(1))
    for _ in range(10):
        a.run(20)
        if answer == "pong":
            a.pong(1)
        elif answer == "commit_ok":
            a.answer_heartbeat(1)
        else:
            a.ack(1)
    assert not a.has_abdicated()


def test_6_1_t_cq_a_ping_is_no_answer() -> None:
    """T-40: a peer whose words reach us may not hear ours."""
    a = primary()
    for _ in range(10):
        a.run(10)
        a.ping(1)
        a.ping(2)
    assert a.has_abdicated()


def test_6_1_t_cq_an_answer_of_another_view_is_none() -> None:
    """A pong from somebody who is not in our view does not keep us in office."""
    a = primary(view=2048)
    for _ in range(10):
        a.run(10)
        a.pong(1, 2, view=1024)
    assert a.has_abdicated()


def test_6_1_t_disk_a_primary_whose_disk_hangs_lets_go() -> None:
    """T-26: its own append is not done in 100 ticks, although the others commit without it."""
    a = primary(auto_disk=False)
    a.request(0, code=1)
    a.commit_all()
    for _ in range(9):
        a.run(10)
        a.pong(1, 2)
    assert not a.has_abdicated()
    for _ in range(3):
        a.run(10)
        a.pong(1, 2)
    assert a.has_abdicated()
    assert a.counter("abdicated_slow_disk") == 1
    assert not a.is_fit()
    a.complete()
    a.run(10)
    assert a.is_fit()


def test_6_1_t_stall_a_primary_that_gets_nowhere_lets_go() -> None:
    """T-40: a request waits 300 ticks, nothing is applied, and another could lead."""
    a = primary()
    a.request(0, code=1)
    for _ in range(29):
        a.run(10)
        a.pong(1, 2)
    assert not a.has_abdicated()
    for _ in range(4):
        a.run(10)
        a.pong(1, 2)
    assert a.counter("abdicated_stall") == 1


def test_6_1_t_stall_nobody_else_could_lead() -> None:
    """Without a better candidate the primary stays, however stuck."""
    a = primary()
    a.request(0, code=1)
    for _ in range(60):
        a.run(10)
        a.pong(1, 2, fit=False)
    assert not a.has_abdicated()


def test_6_1_t_stall_calm_is_no_stall() -> None:
    """An idle primary leads for ever."""
    a = primary()
    for _ in range(100):
        a.run(10)
        a.pong(1, 2)
    assert not a.has_abdicated()


def test_6_2_abdication_is_never_undone_within_a_view() -> None:
    """No heartbeat, no prepare, no admission any more; what is in flight may still commit."""
    a = primary()
    session = a.register()
    a.request(1, session=session)
    a.run(46)
    assert a.has_abdicated()
    a.clear()
    a.commit_all()
    assert a.commit == 2
    for _ in range(10):
        a.pong(1, 2)
        a.run(10)
    a.request(2, session=session)
    assert not a.sent(Commit)
    assert not a.sent(PrepareMessage)
    assert a.has_abdicated()
    assert a.view == 1024


def test_6_2_an_abdicated_primary_sanctions_the_move() -> None:
    """Its backups need not wait for T_SUSPECT."""
    a = primary()
    a.run(46)
    assert a.sent(StartViewChange)[0].sanctioned


def test_6_2_a_single_replica_never_abdicates() -> None:
    """There is nobody to hand to."""
    a = primary(voters=1, auto_disk=False)
    a.request(0, code=1)
    a.run(500)
    assert a.leads()
    assert a.view == 1024


def test_6_1_patience_returns_after_calm() -> None:
    """After 1000 normal ticks a view again gets the first patience."""
    b = in_view_change(0, view=1025)
    b.run(126)
    b.ping(2, view=1026)
    b.hear_start_view([], view=1026)
    for _ in range(202):
        b.run(5)
        b.hear_heartbeat(GENESIS)
    b.ping(1, view=2049)
    before = b.counter("view_timeout")
    b.run(126)
    assert b.counter("view_timeout") == before + 1
