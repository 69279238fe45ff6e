"""Restarts: torn tails, loops, page caches, and the memory of who led (PROTOCOL 7)."""

from __future__ import annotations

import pytest

from sim.choices import Choices
from sim.oracles.facts import Violation
from sim.replica import SimReplica
from sim.scenario import Cluster
from sim.shape import DiskSpeed, Shape
from trio_pb.core.config import Limits
from trio_pb.core.messages import Status


def lose_unflushed(replica: SimReplica) -> None:
    """Let a power cut lose every write that no flush covered."""
    replica.disk = replica.disk.after_power_cut()


# --- A.3 ----------------------------------------------------------------------------------------------


def test_a_3_backup_with_a_torn_tail_comes_back_and_catches_up() -> None:
    """A.3: a crash in the middle of an append costs the backup that op, which it fetches again."""
    for steps in range(6):
        c = Cluster()
        b = c.names[1]
        for number in range(3):
            c.order(f"laptop-{number}").expect_reply()
        c.crash_in_disk_work(b, steps)
        c.order("laptop torn").expect_reply()
        c.run_until(lambda c=c, b=b: not c.is_up(b))  # type: ignore[misc]
        lose_unflushed(c.replica(b).replica)
        c.order("laptop-4").expect_reply()
        c.restart(b)
        c.expect_same_state()
        assert c.count("selection_blocked") == 0


@pytest.mark.parametrize("steps", range(6))
def test_a_3_all_lose_power_at_once_with_torn_tails(steps: int) -> None:
    """A.3, INV-28: the same instant for all three, inside the same append; nobody has a fault afterwards."""
    c = Cluster()
    names = c.names
    for number in range(3):
        c.order(f"laptop-{number}", customer=number).expect_reply()
    for name in names:
        c.crash_in_disk_work(name, steps)
    torn = c.order("laptop torn", customer=9)
    c.run_until(lambda: not any(c.is_up(name) for name in names))
    for replica in c.sim.replicas:
        lose_unflushed(replica)
    c.restart(*names)
    for number in range(3):
        assert c.read(number).expect_reply().record.laptop_type == f"laptop-{number}"
    torn.expect_reply()
    c.expect_same_state()
    assert c.count("selection_blocked") == 0


def test_idle_suffix_is_acknowledged_again_after_all_restart() -> None:
    """R-PROOF: with nothing new to write, a proof alone lets the old suffix commit in the new view."""
    c = Cluster()
    a, b, _ = c.names
    c.lose("PrepareOk")
    c.lose("CommitOk")
    answer = c.order("laptop")
    c.run_for(10)
    commit = c.replica(a).commit
    head = c.replica(b).head
    assert head > commit
    c.cut_clients(*c.names)  # No retry: the log alone has it.
    c.crash(*c.names)
    c.heal()
    c.cut_clients("R0", "R1", "R2")
    c.restart("R0", "R1", "R2")
    c.run_until(lambda: c.replica("R0").applied >= head, "the suffix to commit by itself")
    c.heal()
    answer.expect_reply()
    c.expect_same_state()


# --- Who led ------------------------------------------------------------------------------------------


def test_t_6_restarted_primary_hands_over_without_waiting_for_suspicion() -> None:
    """7.2: a primary that was down for milliseconds says at once that it may not lead on."""
    c = Cluster()
    a, b, _ = c.names
    c.order("laptop-1").expect_reply()
    c.crash(a, power=False)
    c.restart(a)
    since = c.now
    c.await_primary(b)
    assert c.now - since < 30
    assert all(c.replica(name).counted("suspected") == 0 for name in c.names)
    c.order("laptop-2").expect_reply()
    c.expect_same_state()


# --- Loops --------------------------------------------------------------------------------------------


def test_restart_loop_of_a_backup_disturbs_nobody() -> None:
    """A backup that crashes as soon as it is up moves no view."""
    c = Cluster()
    b = c.names[1]
    before = c.view_changes
    for number in range(10):
        c.crash(b, power=number % 2 == 0)
        c.restart(b)
        c.run_for(number)
        c.order(f"laptop-{number}").expect_reply()
    c.expect_same_state()
    assert c.view_changes == before


@pytest.mark.parametrize("power", [True, False])
def test_crash_at_each_step_of_a_boot_and_again_at_the_next(power: bool) -> None:
    """T-35, R-PROOF: a crash between a boot's superblock, records and proof; the boot after it succeeds."""
    c = Cluster()
    b = c.names[1]
    c.order("laptop").expect_reply()
    for steps in range(36):
        c.crash(b, power=power)
        c.crash_in_disk_work(b, steps, power=power)
        c.sim.replicas[int(b[1:])].start()
        c.run_for(5)
        if c.is_up(b):
            c.sim.replicas[int(b[1:])].plan_crash(power=power, after_outputs=None, after_steps=None)
        else:
            c.restart(b)
            c.run_for(2)
    c.order("laptop after the loop").expect_reply()
    c.expect_same_state()


def test_crash_between_any_two_outputs_of_a_boot() -> None:
    """R-OUT3: the process dies before each of its first outputs in turn."""
    c = Cluster()
    b = c.names[1]
    c.order("laptop").expect_reply()
    replica = c.sim.replicas[int(b[1:])]
    for outputs in range(12):
        c.crash(b)
        replica.plan_crash(power=True, after_outputs=outputs, after_steps=None)
        replica.start()
        c.run_for(12)
        if c.is_up(b):
            replica.plan_crash(power=True, after_outputs=None, after_steps=None)
        else:
            c.restart(b)
    c.order("laptop after the loop").expect_reply()
    c.expect_same_state()


# --- Page caches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(1, 7))
def test_t_12_proof_found_at_start_is_no_proof(steps: int) -> None:
    """T-12: a crash of the process leaves a proof in the page cache; it is written anew before it counts.

    The disk of the restarted backup takes its time; were it to acknowledge what it found, INV-8 would
    say so, and a power cut now would take it back.
    """
    c = Cluster(shape=Shape(disk=DiskSpeed(flush_min=20_000, flush_mean=1)))
    a, b, other = c.names
    c.order("laptop-1").expect_reply()
    c.lose("PrepareMessage", dst=other)
    c.lose("PrepareCopy", dst=other)
    c.run_for(20)
    c.crash_in_disk_work(b, steps, power=False)
    answer = c.order("laptop-2")
    c.run_until(lambda: not c.is_up(b))
    c.restart(b)
    c.run_for(20)
    c.crash(a, b)
    for name in (a, b):
        lose_unflushed(c.sim.replicas[int(name[1:])])
    c.heal()
    c.restart(a, b)
    answer.expect_reply()
    c.expect_same_state()


# --- Damage -------------------------------------------------------------------------------------------


def test_lonely_replica_whose_record_rots_while_it_starts_stops() -> None:
    """R-SCAN, n = 1: a record that the scan found and a read does not stops the replica, with a reason."""
    c = Cluster(replicas=1)
    c.order("laptop rotten").expect_reply()
    c.crash("R0")
    c.rot_after_scan("R0", "laptop rotten")
    with pytest.raises(Violation, match="unrecoverable"):
        c.restart("R0")


def test_record_that_rots_while_a_backup_starts_is_fetched_again() -> None:
    """R-IOERR: a failed read equals damage: the backup takes the body from others and goes on."""
    c = Cluster()
    b = c.names[1]
    c.order("laptop rotten").expect_reply()
    c.order("laptop-2").expect_reply()
    c.crash(b)
    c.rot(b, "laptop rotten")
    c.restart(b)
    c.expect_same_state()
    assert c.replica(b).status is Status.NORMAL


def test_restart_with_a_long_log_reads_it_back() -> None:
    """7.1: hundreds of ops over several segments come back in order, with a small cache."""
    c = Cluster(shape=Shape(limits=Limits(batch_requests_max=1, body_cache_ops=32, wal_reads_max=4)))
    c.orders(150)
    c.crash("R0", "R1", "R2")
    c.restart("R0", "R1", "R2")
    c.order("laptop last").expect_reply()
    c.expect_same_state()


def test_choices_of_a_scenario_are_benign() -> None:
    """What a scenario does not say does not happen: no draw differs from its default."""
    c = Cluster()
    c.order("laptop").expect_reply()
    assert isinstance(c.sim.choices, Choices)
    assert not c.sim.choices.made
