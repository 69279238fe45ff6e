"""The scenario language, and what it shows of the cluster."""

from __future__ import annotations

from sim.scenario import Cluster


def test_order_is_answered_and_read_back() -> None:
    """An order gets its receipt, and a later read sees it."""
    c = Cluster(replicas=3)
    receipt = c.order("laptop-1", customer=7).expect_reply().receipt
    record = c.read(7).expect_reply().record
    assert record.laptop_type == "laptop-1"
    assert record.op == receipt.op
    c.expect_same_state()


def test_isolated_primary_cannot_commit() -> None:
    """A primary cut off from its backups commits nothing; the rest go on (VRR 4.2)."""
    c = Cluster(replicas=3)
    c.order("laptop-1").expect_reply()
    old = c.sim.replicas.index(c.replica("A0").replica)

    c.isolate("A0")
    lost = c.order("laptop-2", via=f"R{old}").expect_no_reply(30)
    c.run_until(lambda: any(c.replica(f"R{n}").is_primary for n in range(3) if n != old))
    assert not lost.operation.succeeded

    c.heal()
    c.order("laptop-3").expect_reply()
    c.expect_same_state("R0", "R1", "R2")


def test_crashed_primary_is_replaced_and_comes_back() -> None:
    """A power cut of the primary costs one view change, no acknowledged order."""
    c = Cluster(replicas=3)
    c.order("laptop-1").expect_reply()
    old = f"R{c.replica('A0').replica.number}"
    c.crash(old)
    c.order("laptop-2").expect_reply()
    c.restart(old)
    c.order("laptop-3").expect_reply()
    c.expect_same_state()


def test_dropped_acknowledgements_stop_commits_until_healed() -> None:
    """Without prepare_ok and commit_ok nothing commits; afterwards everything does."""
    c = Cluster(replicas=3)
    c.drop(kind="PrepareOk")
    c.drop(kind="CommitOk")
    answer = c.order("laptop-1").expect_no_reply(20)
    c.heal()
    answer.expect_reply()


def test_one_way_cut_lets_the_cluster_go_on() -> None:
    """A backup that hears nothing of the primary does not stop the other two."""
    c = Cluster(replicas=3)
    c.order("laptop-1").expect_reply()
    c.cut("A0", "B1", one_way=True)
    c.order("laptop-2").expect_reply()
    c.heal()
    c.expect_same_state()


def test_minority_side_is_left_behind_and_catches_up() -> None:
    """Two sides: the larger goes on, the smaller learns all of it after the heal."""
    c = Cluster(replicas=5)
    c.order("laptop-1").expect_reply()
    c.partition(["A0", "B1", "B2"], ["B3", "B4"])
    c.order("laptop-2").expect_reply()
    c.heal()
    c.expect_same_state()


def test_paused_backup_hears_everything_at_once() -> None:
    """A pause is no crash: what waited arrives in one step, and nobody is deposed."""
    c = Cluster(replicas=3)
    c.order("laptop-1").expect_reply()
    before = c.replica("A0").view
    backup = f"R{c.replica('B1').replica.number}"
    c.pause(backup)
    c.order("laptop-2").expect_reply()
    c.run_for(200)
    c.resume(backup)
    c.expect_same_state()
    assert c.replica("A0").view == before


def test_all_lose_power_and_nothing_acknowledged_is_lost() -> None:
    """The whole cluster dies at once and comes back with every order."""
    c = Cluster(replicas=3)
    for number in range(5):
        c.order(f"laptop-{number}", customer=number).expect_reply()
    c.crash("R0", "R1", "R2")
    c.restart("R0", "R1", "R2")
    for number in range(5):
        assert c.read(number).expect_reply().record.laptop_type == f"laptop-{number}"
    c.expect_same_state()
