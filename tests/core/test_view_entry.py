"""Into the next view, rule by rule (PROTOCOL 6.1, 6.2): whom to wish for, when to enter, patience."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.bench import GENESIS, Bench, chain, disk_of, statement
from tests.core.between_views import in_view_change, wishes
from trio_pb.core.messages import NO_PROBE, Commit, CommitOk, DoViewChange, Ping, PrepareMessage, Status
from trio_pb.core.ports import Send, SuperblockWrite
from trio_pb.core.state import VIEW_MODULUS, primary_of
from trio_pb.core.wishes import next_view_of

# --- R-PRIMARY and R-TARGET ---------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, VIEW_MODULUS - 1))
def test_r_primary_next_view_of_is_the_least_above(view: int, replica: int) -> None:
    """R-PRIMARY: next_view_of is led by the replica, above the view, and the least such."""
    target = next_view_of(view, replica)
    assert primary_of(target) == replica
    assert view < target <= view + VIEW_MODULUS


def test_r_target_skips_the_failed_primary_and_the_dead() -> None:
    """The next view led by somebody alive, fit and connected: of five, 1 is dead and 2 unfit."""
    b = Bench(disk_of(4, voters=5))
    b.pong(0, 3)
    b.pong(2, fit=False)
    b.run(76)
    b.clear()
    b.pong(0, 3)
    b.pong(2, fit=False)
    b.run(10)
    assert set(wishes(b)) == {1027}


def test_r_target_asks_for_reach() -> None:
    """T-9: a peer that does not itself reach a view change quorum is not followed."""
    b = Bench(disk_of(2))
    b.run(70)
    b.pong(1, reach=1)
    b.run(20)
    assert wishes(b)[-1] == 1026, "ourselves, who reach 1"


def test_r_target_judges_itself_by_the_same_tests() -> None:
    """A replica that reaches nobody does not wish for itself; with nobody eligible, simply the next."""
    b = Bench(disk_of(2))
    b.run(80)
    assert set(wishes(b)) == {1025}


def test_r_target_of_a_single_voter_is_itself() -> None:
    """A cluster of one: the only voter leads again, in the next of its views."""
    a = Bench(disk_of(0, voters=1, view=1024))
    a.tick()
    assert a.is_in(Status.NORMAL)
    assert a.view == 2048


# --- Wishing ------------------------------------------------------------------------------------------


def test_6_1_t_suspect_a_silent_primary_is_wished_away() -> None:
    """A backup that hears nothing for T_SUSPECT wishes, and says so again every T_SVC."""
    b = Bench(disk_of(1))
    b.clear()
    b.run(50)
    assert not wishes(b)
    b.run(26)
    assert wishes(b)
    b.clear()
    b.run(20)
    assert len(wishes(b)) == 2


def test_6_1_t_suspect_a_wish_alone_moves_nobody() -> None:
    """T-8: one replica that hears nothing goes on wishing in its view, and disturbs nobody."""
    b = Bench(disk_of(1))
    b.run(1000)
    assert (b.status, b.view) == (Status.NORMAL, 1024)


def test_6_1_t_suspect_heard_primary_ends_the_wish() -> None:
    """A backup that hears its primary again withdraws its wish."""
    b = Bench(disk_of(1))
    b.run(80)
    b.hear_heartbeat(GENESIS)
    b.clear()
    b.run(30)
    assert not wishes(b)
    b.hear_wish(2, 1025)
    assert b.is_in(Status.NORMAL), "its own wish does not count any more"


def test_6_1_t_suspect_a_ping_of_the_primary_is_no_sign_of_leading() -> None:
    """Only prepares and heartbeats show that the primary leads."""
    b = Bench(disk_of(1))
    for _ in range(8):
        b.run(10)
        b.ping(0)
    assert wishes(b)


def test_6_2_sanctioned_wish_is_taken_over_at_once() -> None:
    """A wish of our own primary that sanctions the move becomes ours, with its target."""
    b = Bench(disk_of(1))
    b.hear_heartbeat(GENESIS)
    b.clear()
    b.hear_wish(0, 1026, sanctioned=True)
    assert wishes(b) == [1026]
    assert b.is_in(Status.VIEW_CHANGE), "its primary and itself are a quorum of three"


def test_6_2_sanctioned_wish_survives_a_heartbeat() -> None:
    """A late heartbeat of the primary that asked for the move does not undo it."""
    b = Bench(disk_of(1, voters=5))
    b.hear_wish(0, 1026, sanctioned=True)
    b.hear_heartbeat(GENESIS)
    b.clear()
    b.run(20)
    assert set(wishes(b)) == {1026}


def test_6_2_only_our_own_primary_sanctions() -> None:
    """The same words from somebody else, or from another view, are a wish like any."""
    b = Bench(disk_of(1, voters=5))
    b.hear_wish(2, 1026, sanctioned=True)
    b.hear_wish(0, 1026, sanctioned=True, view=1000)
    assert not wishes(b)
    assert b.is_in(Status.NORMAL)


# --- R-ENTER and R-JOIN ---------------------------------------------------------------------------------


def test_r_enter_the_highest_view_that_a_quorum_wishes_for_or_beyond() -> None:
    """Of five: wishes for 1026, 1027 and 1028 carry everybody to 1026."""
    b = Bench(disk_of(1, voters=5))
    b.hear_wish(2, 1026)
    b.hear_wish(3, 1027)
    assert b.view == 1024
    b.hear_wish(4, 1028)
    assert b.view == 1026


def test_r_enter_one_voter_is_one_wish() -> None:
    """Wishing twice does not make a quorum."""
    b = Bench(disk_of(1))
    b.hear_wish(2, 1025)
    b.hear_wish(2, 1026)
    assert b.view == 1024


def test_r_enter_old_wishes_are_forgotten() -> None:
    """A wish lives for 40 ticks."""
    b = Bench(disk_of(1, voters=5))
    b.hear_wish(2, 1026)
    b.hear_wish(3, 1026)
    b.tick(41)
    b.hear_wish(4, 1026)
    assert b.view == 1024
    b.hear_wish(3, 1026)
    b.hear_wish(2, 1026)
    assert b.view == 1026


def test_r_enter_own_wish_counts_only_while_wishing() -> None:
    """A replica content with its primary is not part of the quorum; when it wishes itself, it is."""
    b = Bench(disk_of(1))
    b.hear_wish(2, 1025)
    assert b.view == 1024
    b.run(35)
    b.hear_wish(2, 1025)
    b.run(40)
    b.hear_wish(2, 1025)
    assert b.view == 1025


def test_r_enter_standbys_do_not_wish() -> None:
    """INV-26: the wish of a standby is not counted."""
    b = Bench(disk_of(1, standbys=(3,)))
    b.hear_wish(2, 1025)
    b.hear_wish(3, 1025)
    assert b.view == 1024


@pytest.mark.parametrize("how", ["ping", "wish", "heartbeat", "prepare", "statement", "start_view"])
def test_r_join_a_higher_view_is_entered_when_heard_of(how: str) -> None:
    """Whoever speaks from a higher view got there by a quorum: follow at once."""
    b = Bench(disk_of(1))
    b.auto_disk = False
    if how == "ping":
        b.ping(2, view=1026)
    elif how == "wish":
        b.hear_wish(2, 1030, view=1026)
    elif how == "heartbeat":
        b.hear(2, Commit(GENESIS.checksum, None, 0, statement([], log_view=0).certified), view=1026)
    elif how == "prepare":
        b.hear(2, PrepareMessage(chain(1)[0], None, 0), view=1026)
    elif how == "statement":
        b.hear_statement(0, statement([], log_view=1024), view=1026)
    else:
        b.hear_start_view([], view=1026)
    assert (b.view, b.status) == (1026, Status.VIEW_CHANGE)
    assert not b.sent(DoViewChange), "not before the promise is durable"


def test_r_join_other_messages_move_nobody() -> None:
    """A wish's target is no view that anybody is in, and answers tell nothing either."""
    b = Bench(disk_of(1))
    b.hear_wish(2, 1026)
    b.hear(2, CommitOk(0, None, statement([], log_view=0).certified, NO_PROBE, fit=True), view=1026)
    assert b.view == 1024


def test_6_2_entering_is_durable_before_it_is_said() -> None:
    """T-1, R-ENV: do_view_change and every frame of the new view wait for the superblock."""
    b = Bench(disk_of(1))
    b.auto_disk = False
    b.clear()
    b.ping(2, view=1026)
    b.run(5)
    assert not b.sent(DoViewChange)
    assert {send.envelope.view for send in b.given(Send)} <= {1024}
    b.complete(SuperblockWrite)
    assert len(b.sent(DoViewChange, to=2)) == 1
    assert b.sent(Ping, to=0)[-1].position.log_view == 1024, "the others learn of the view by a ping"


def test_6_2_a_statement_is_repeated_until_the_view_begins() -> None:
    """T_DVC: what was lost is said again."""
    b = in_view_change(0, view=1025)
    b.clear()
    b.run(40)
    assert len(b.sent(DoViewChange, to=1)) == 2


def test_6_1_t_vc_a_view_that_comes_to_nothing() -> None:
    """T_VC: after 100 ticks and jitter wish for the next view, and have twice the patience with that."""
    b = in_view_change(0, view=1025)
    b.run(99)
    assert not wishes(b)
    b.run(27)
    assert wishes(b)
    assert b.counter("view_timeout") == 1
    b.ping(2, view=1026)
    b.clear()
    b.run(195)
    assert b.counter("view_timeout") == 1
    b.run(60)
    assert b.counter("view_timeout") == 2


def test_t_27_progress_of_the_new_primary_extends_the_patience() -> None:
    """While its repair gets on, nobody looks for another; but not for ever."""
    b = in_view_change(0, view=1025)
    for progress in range(1, 40):
        b.run(60)
        b.ping(1, progress=progress)
        if b.counter("view_timeout"):
            raise AssertionError("wished away while it made progress")
    b.run(1500)
    assert b.counter("view_timeout")
