"""Birth: members meet once and for ever; a wiped disk never votes under its old id (PROTOCOL 7.6)."""

from __future__ import annotations

from sim.scenario import Cluster


def test_t_16_reformatted_disk_restarts_and_stays_a_stranger() -> None:
    """T-16: restarts of the wiped replica, and of those that pinned its first identity, change nothing."""
    c = Cluster()
    _, b, wiped = c.names
    c.order("laptop-1").expect_reply()
    c.crash(wiped)
    c.reformat(wiped)
    for _ in range(3):
        c.restart(wiped)
        c.run_until(lambda: c.is_stopped(wiped), "the wiped replica to stop")
        c.crash(b)
        c.restart(b)
        c.run_for(30)
    assert c.count("fatal identity_refused") == 3
    c.order("laptop-2").expect_reply()


def test_born_replica_is_not_born_again() -> None:
    """7.6: birth happens once, whatever crashes; the second start finds a member."""
    c = Cluster()
    c.crash("R0", "R1", "R2")
    c.restart("R0", "R1", "R2")
    c.order("laptop").expect_reply()
    assert c.count("born") == 3
    c.expect_same_state()


def test_members_crash_while_they_are_being_born() -> None:
    """7.6: a crash at each step of the first seconds leaves a cluster that is born at last."""
    for steps in range(0, 30, 3):
        c = Cluster(ready=False)
        c.crash_in_disk_work("R1", steps)
        c.run_until(lambda c=c: not c.is_up("R1") or c.count("born") == 3)  # type: ignore[misc]
        c.spare("R1")
        if not c.is_up("R1"):
            c.restart("R1")
        c.order("laptop").expect_reply()
        c.expect_same_state()


def test_hello_is_lost_one_way() -> None:
    """7.6: one direction of one link carries no hello for two seconds; then all are born."""
    c = Cluster(ready=False)
    c.cut("R0", "R1", one_way=True)
    c.run_for(200)
    assert c.count("born") < 3
    c.heal()
    c.order("laptop").expect_reply()
    c.expect_same_state()
