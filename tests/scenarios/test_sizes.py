"""Clusters of other sizes: what each quorum of the table means in practice (PROTOCOL 2.5)."""

from __future__ import annotations

import pytest

from sim.scenario import Cluster
from trio_pb.core.config import Options
from trio_pb.core.durable import Install, Proof, Scan, Superblock
from trio_pb.core.messages import Configuration
from trio_pb.core.ports import (
    FromPeer,
    Input,
    Send,
    Start,
    SuperblockDone,
    SuperblockWrite,
    Tick,
    WalAppend,
    WalDone,
)
from trio_pb.core.prepare import genesis
from trio_pb.core.replica import Replica


def test_one_replica_serves_alone_and_keeps_its_log() -> None:
    """One replica: orders, reads and restarts without anybody to ask; it never abdicates."""
    c = Cluster(replicas=1)
    for number in range(3):
        c.order(f"laptop-{number}", customer=number).expect_reply()
        c.crash("R0", power=number % 2 == 0)
        c.restart("R0")
        assert c.read(number).expect_reply().record.laptop_type == f"laptop-{number}"
    c.hang_disk("R0")
    waiting = c.order("laptop waiting").expect_no_reply(400)
    assert c.primaries() == ["R0"]
    c.free_disk("R0")
    waiting.expect_reply()
    c.expect_same_state()


def test_two_replicas_need_each_other() -> None:
    """Two replicas: nothing commits without the other; afterwards both have everything."""
    c = Cluster(replicas=2)
    a, b = c.names
    c.order("laptop-1").expect_reply()
    c.crash(b)
    waiting = c.order("laptop-2").expect_no_reply(300)
    c.restart(b)
    waiting.expect_reply()
    c.crash(a)
    waiting = c.order("laptop-3").expect_no_reply(300)
    c.restart(a)
    waiting.expect_reply()
    c.expect_same_state()


def test_four_replicas_commit_with_two_and_change_views_with_three() -> None:
    """Four replicas: the flexible quorum: a primary with one backup commits; two without a primary do not elect one."""
    c = Cluster(replicas=4)
    a, b, d, e = c.names
    c.crash(d, e)
    c.order("laptop-1", customer=1).expect_reply()
    c.crash(a)
    c.restart(d)
    waiting = c.order("laptop-2", customer=2).expect_no_reply(400)
    assert c.primaries() == []
    c.restart(e)
    waiting.expect_reply()
    assert c.read(1).expect_reply().record.laptop_type == "laptop-1"
    c.restart(a)
    assert c.replica(b).is_primary or c.replica(d).is_primary or c.replica(e).is_primary
    c.expect_same_state()


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 5, 6, 7])
def test_every_size_survives_a_power_cut_of_all(replicas: int) -> None:
    """2.5: each size of the table, with an order before and one after everything went dark."""
    c = Cluster(replicas=replicas)
    c.order("laptop-1", customer=1).expect_reply()
    names = c.names
    c.crash(*names)
    c.restart(*names)
    assert c.read(1).expect_reply().record.laptop_type == "laptop-1"
    c.order("laptop-2", customer=2).expect_reply()
    c.expect_same_state()


@pytest.mark.parametrize("replicas", [3, 4, 5, 6, 7])
def test_every_size_survives_the_loss_of_its_minority(replicas: int) -> None:
    """2.5: as many as may be missing for a view change are missing, the primary among them."""
    c = Cluster(replicas=replicas)
    names = c.names
    missing = names[: (replicas - 1) // 2]
    c.order("laptop-1", customer=1).expect_reply()
    c.crash(*missing)
    assert c.read(1).expect_reply().record.laptop_type == "laptop-1"
    c.order("laptop-2", customer=2).expect_reply()
    c.restart(*missing)
    c.expect_same_state()


def test_ids_need_not_begin_at_zero_nor_be_consecutive() -> None:
    """R-PRIMARY: voters 3, 17 and 1023: nobody leads view 0; the views of the three go round as with others."""
    cluster = b"c" * 16
    ids = (3, 17, 1023)
    cores = {replica: _Core(cluster, replica, ids) for replica in ids}

    def run(ticks: int, *down: int) -> None:
        for _ in range(ticks):
            for replica in ids:
                if replica not in down:
                    cores[replica].tick(cores, down)

    run(200)
    leading = [replica for replica in ids if cores[replica].core.report().is_primary]
    assert len(leading) == 1
    assert all(cores[replica].core.report().primary == leading[0] for replica in ids)
    run(200, *leading)
    others = [replica for replica in ids if replica not in leading]
    assert sum(cores[replica].core.report().is_primary for replica in others) == 1


class _Core:
    """A core whose disk completes at once and whose messages arrive a tick later."""

    def __init__(self, cluster: bytes, replica: int, voters: tuple[int, ...]) -> None:
        origin = genesis(cluster).id
        self.core = Replica(Options())
        self.now_tick = 0
        superblock = Superblock(
            cluster=cluster,
            replica=replica,
            incarnation=bytes([replica % 251]) * 16,
            boot=0,
            born=False,
            view=0,
            log_view=0,
            install=Install(base=origin),
            commit=origin,
            configuration=Configuration(0, voters),
            pinned=(),
        )
        self.inbox: list[Input] = [Start(superblock, Scan(Proof(0, 0, 0, b"", origin), True, ()))]

    def tick(self, cores: dict[int, _Core], down: tuple[int, ...]) -> None:
        """Take what is there and one tick; repeat while the disk completes something."""
        self.now_tick += 1
        inputs, self.inbox = [*self.inbox, Tick(1, self.now_tick * 10**7)], []
        while inputs:
            completions: list[Input] = []
            for output in self.core.step(self.now_tick, inputs):
                if isinstance(output, WalAppend):
                    completions.append(WalDone(output.sequence))
                elif isinstance(output, SuperblockWrite):
                    completions.append(SuperblockDone(output.sequence))
                elif isinstance(output, Send):
                    for replica in sorted(set(output.replicas).difference(down)):
                        cores[replica].inbox.append(FromPeer(output.envelope, output.message))
            inputs = completions
