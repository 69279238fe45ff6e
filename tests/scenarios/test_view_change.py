"""From one view to the next, with every kind of suffix, loss and crash on the way (PROTOCOL 6)."""

from __future__ import annotations

import pytest

from sim.scenario import Cluster
from trio_pb.core.messages import Envelope, GetPrepares, PrepareMessage, Status


def op_of(envelope: Envelope | None, message: object) -> int:
    """The op of a prepare message."""
    assert isinstance(message, PrepareMessage)
    return message.prepare.op


# --- A.2 ----------------------------------------------------------------------------------------------


def test_a_2_suffix_that_only_the_dead_primary_stored_is_not_waited_for() -> None:
    """A.2, variant: nobody else heard of op 8; the new view begins without it."""
    c = Cluster()
    a, b, _ = c.names
    c.order("laptop-7").expect_reply()
    commit = c.replica(a).commit
    c.lose("PrepareMessage", src=a)
    c.lose("PrepareCopy", src=a)
    answer = c.order("laptop-8")
    c.run_for(5)
    assert c.replica(a).head == commit + 1
    c.crash(a)
    c.await_primary(b)
    assert c.replica(b).head == commit
    c.heal()
    answer.expect_reply()
    c.restart(a)
    c.expect_same_state()


# --- Lost and repeated messages -----------------------------------------------------------------------


def test_lost_do_view_change_is_said_again() -> None:
    """T_DVC: the new primary that heard nobody's log hears it 200 ms later, in the same view."""
    c = Cluster()
    a, b, _ = c.names
    lost = c.lose("DoViewChange", dst=b)
    c.crash(a)
    c.run_until(lambda: c.replica(b).status is Status.VIEW_CHANGE)
    c.run_for(10)
    lost.stop()
    entered = c.view_changes
    c.await_primary(b)
    assert c.view_changes <= entered + 1
    c.order("laptop").expect_reply()
    c.restart(a)
    c.expect_same_state()


def test_old_statements_and_start_views_arrive_again_in_a_later_view() -> None:
    """R-STALE, T-3: everything said in two view changes is heard once more in a third view."""
    c = Cluster()
    heard = [c.copy(kind) for kind in ("StartView", "DoViewChange", "StartViewChange", "PrepareMessage", "Commit")]
    for number in range(3):
        c.order(f"laptop-{number}").expect_reply()
        old = c.names[0]
        c.crash(old)
        c.order(f"laptop-{number} of the next view").expect_reply()
        c.restart(old)
        c.expect_same_state()
    entered = c.view_changes
    for kind in heard:
        kind.release(backwards=True)
    c.run_for(20)
    c.order("laptop-9").expect_reply()
    assert c.view_changes == entered
    c.expect_same_state()


def test_start_view_of_the_view_before_arrives_during_the_next_install() -> None:
    """6.5: a late start_view of an older view is not installed over a newer one."""
    c = Cluster(replicas=5)
    a, b, d, e, f = c.names
    late = c.hold("StartView", dst=f)
    c.crash(a)
    c.await_primary(b)
    c.order("laptop-1").expect_reply()
    late.stop()
    c.crash(b)
    c.await_primary(d, e, f)
    late.release()
    c.order("laptop-2").expect_reply()
    c.restart(a, b)
    c.expect_same_state()


# --- Primaries that fail on the way -------------------------------------------------------------------


def test_dead_primary_of_a_view_is_not_granted_progress() -> None:
    """T-27: repairs that the next primary did long ago do not buy it a second T_VC when it is dead."""
    c = Cluster(replicas=5)
    first, a, b, *_ = c.names
    c.isolate(b)
    c.orders(20)
    c.crash(first)
    c.await_primary(a)
    c.heal()
    c.restart(first)
    c.expect_same_state()
    c.run_for(30)
    assert c.replica(b).state.progress > 0, "it fetched what the new view named"
    rest = [name for name in c.names if name not in (a, b)]
    missed = c.lose("DoViewChange", dst=b)
    c.crash(a)
    c.run_until(lambda: all(c.replica(name).status is Status.VIEW_CHANGE for name in (b, *rest)))
    c.crash(b)
    missed.stop()
    since = c.now
    c.await_primary(*rest)
    assert c.now - since < 145
    c.restart(a, b)
    c.expect_same_state()


@pytest.mark.parametrize("power", [True, False])
def test_new_primary_dies_at_each_step_of_its_install(power: bool) -> None:
    """6.4, 6.5: a crash inside either superblock write of a view change; nothing is lost, somebody leads."""
    for steps in range(0, 16, 3 if power else 5):
        c = Cluster()
        a, b, _ = c.names
        c.order("laptop-1").expect_reply()
        c.crash_in_disk_work(b, steps, power=power)
        c.crash(a)
        c.run_until(lambda c=c, b=b: not c.is_up(b) or c.replica(b).is_primary)  # type: ignore[misc]
        c.spare(b)
        c.restart(*(name for name in (a, b) if not c.is_up(name)))
        assert c.read().expect_reply().record.laptop_type == "laptop-1"
        c.order("laptop-2").expect_reply()
        c.expect_same_state()


def test_backup_dies_at_each_step_of_its_install() -> None:
    """6.5: the same for the one that installs start_view."""
    for steps in range(0, 16, 2):
        c = Cluster()
        a, b, other = c.names
        c.order("laptop-1").expect_reply()
        c.crash_in_disk_work(other, steps)
        c.crash(a)
        c.run_until(lambda c=c, b=b, other=other: not c.is_up(other) or c.replica(b).is_primary)  # type: ignore[misc]
        c.run_for(5)
        c.spare(other)
        c.restart(*(name for name in (a, other) if not c.is_up(name)))
        c.order("laptop-2").expect_reply()
        c.expect_same_state()


def test_higher_view_is_entered_while_an_install_is_in_flight() -> None:
    """6.2: an install whose image is on its way completes, but the status stays view_change."""
    c = Cluster(replicas=5)
    a, b, d, e, f = c.names
    c.order("laptop-1").expect_reply()
    started = c.hold("StartView", dst=f)
    c.crash(a)
    c.await_primary(b)
    c.run_for(1)
    c.hang_disk(f)
    started.release()
    c.run_for(1)
    c.crash(b)
    c.restart(a)
    c.await_primary(d, e)
    c.run_for(20)
    c.free_disk(f)
    c.order("laptop-2").expect_reply()
    c.restart(b)
    c.expect_same_state()


# --- Primaries that let go ----------------------------------------------------------------------------


def test_t_cq_primary_without_answers_lets_go_before_others_suspect_it() -> None:
    """T_CQ: an isolated primary stops leading after 400 ms, and never leads that view again."""
    c = Cluster()
    a = c.names[0]
    c.isolate(a)
    c.run_for(50)
    assert c.primaries() == []
    assert c.replica(a).state.abdicated
    c.heal()
    c.order("laptop").expect_reply()
    assert c.replica(a).counted("became_primary") <= 1
    c.expect_same_state()


def test_t_disk_backup_with_a_hanging_disk_is_not_followed() -> None:
    """T_DISK, n = 5: a backup whose disk hangs is unfit, and the next view is led by another."""
    c = Cluster(replicas=5)
    a, b, d, *_ = c.names
    c.hang_disk(b)
    c.order("laptop-1").expect_reply()
    c.run_for(150)
    assert "disk" in c.replica(b).state.unfit
    c.crash(a)
    assert c.await_primary() == d
    c.order("laptop-2").expect_reply()
    c.free_disk(b)
    c.restart(a)
    c.expect_same_state()


def test_pause_short_of_t_suspect_moves_nobody() -> None:
    """A primary that pauses for 300 ms goes on as if nothing had been."""
    c = Cluster()
    a = c.names[0]
    before = c.view_changes
    for number in range(5):
        c.pause(a)
        c.run_for(30)
        c.resume(a)
        c.order(f"laptop-{number}").expect_reply()
    assert c.view_changes == before
    c.expect_same_state()


def test_everybody_pauses_and_returns_together() -> None:
    """All machines sleep for a minute: nobody suspects anybody on what a single tick shows."""
    c = Cluster()
    c.order("laptop-1").expect_reply()
    c.pause(*c.names)
    c.run_for(6000)
    c.resume("R0", "R1", "R2")
    c.order("laptop-2").expect_reply()
    c.expect_same_state()


# --- Logs that lost ----------------------------------------------------------------------------------


def test_t_19_leftover_of_a_cut_suffix_does_not_come_back_at_a_restart() -> None:
    """T-19: the record of an op that left the log is still on the disk; the next boot does not take it up."""
    c = Cluster()
    a, b, other = c.names
    stranger = c.caller()
    stranger.register(a)
    c.run_until(lambda: stranger.session > 0)
    c.run_for(10)
    commit = c.replica(a).commit
    c.isolate(a)
    stranger.order(1, to=a)
    c.run_for(5)
    assert c.replica(a).head == commit + 1
    new = c.await_primary(b, other)
    c.heal()
    c.run_until(lambda: c.replica(a).state.log_view == c.replica(new).state.log_view)
    assert c.replica(a).head == commit
    c.crash(a)
    c.restart(a)
    assert c.replica(a).head == commit
    c.order("laptop").expect_reply()
    c.expect_same_state()


# --- T-37 ---------------------------------------------------------------------------------------------


def test_t_37_stale_copy_does_not_extend_a_log_of_a_later_view() -> None:
    """T-37: a body that was cut from the log reaches a backup when its old primary leads again.

    P ordered an op whose identity X learned, and X's request for the body is late. The view of Y begins
    without that op; later P leads again and hears the late request. Its answer names a prepare that
    is in nobody's log.
    """
    c = Cluster()
    x, p, y = c.names
    statement = c.copy("DoViewChange", src=x)
    c.crash(x)
    assert c.await_primary(p) == p
    c.restart(x)
    c.order("laptop-1").expect_reply()
    c.expect_same_state()
    commit = c.replica(p).commit

    c.lose("PrepareMessage", src=p)
    copies = c.lose("PrepareCopy", src=p)
    late = c.hold("GetPrepares", src=x, dst=p)
    c.caller().register(p)
    c.run_for(2)
    statement.release()
    c.run_for(30)  # It asked by position first; now it asks by name.
    assert c.replica(x).head == commit + 1
    c.lose("StartView", src=y, dst=x)
    c.cut(p, x)
    c.cut(p, y)
    c.await_primary(y)
    c.mend(p, y)
    c.run_for(30)
    assert c.replica(p).head == commit
    assert any(isinstance(letter.message, GetPrepares) and letter.message.wanted[0][1] for letter in late.letters)

    c.lose("DoViewChange", src=p, dst=x)
    c.crash(y)
    c.mend(p, x)
    c.await_primary(p)
    c.run_for(20)
    copies.stop()
    late.release()
    c.run_for(5)
    assert c.replica(x).head == commit, "extended by a prepare that no primary of this view ordered"
    c.heal()
    c.order("laptop-2").expect_reply()
    c.restart(y)
    c.expect_same_state()
    assert all(c.replica(name).counted("protocol_violations") == 0 for name in (p, x))
