"""Checkpoints that are copied: to who lags too far behind, and to who went wrong (PROTOCOL 8.2, 9)."""

from __future__ import annotations

import attrs

from sim.narrated import NarratedCluster
from sim.scenarios.scenario import scenario
from sim.shape import Shape
from trio_pb.core.config import Limits

INTERVAL = 8
SHORT_LOG = Shape(
    limits=Limits(batch_requests_max=1, checkpoint_interval_ops=INTERVAL, wal_ops=4 * INTERVAL, pipeline_max=4)
)
LONG_TAIL = Shape(
    limits=Limits(batch_requests_max=1, checkpoint_interval_ops=INTERVAL, wal_ops=4 * INTERVAL, pipeline_eager_max=32)
)
PROBED = attrs.evolve(SHORT_LOG, limits=attrs.evolve(SHORT_LOG.limits, probe_interval_ops=4))


def fall_behind(c: NarratedCluster, name: str, *, ops: int = 60) -> None:
    """Cut a backup off until the others have forgotten what it lacks."""
    c.order("laptop first", customer=1).expect_reply()
    c.isolate(name)
    with c.quietly():
        for number in range(ops):
            c.order(f"laptop {number}", customer=number).expect_reply()
        c.run_for(20)
    c.tell(f"{ops} orders later the others have freed what {name} lacks: their logs keep {4 * INTERVAL} ops")


@scenario(shape=SHORT_LOG)
def lagging_replica_copies_state(c: NarratedCluster) -> None:
    """What a replica lacks is gone: it copies a checkpoint while orders go on, and slows nobody down (A.5)."""
    b = c.names[1]
    fall_behind(c, b)
    entered = c.view_changes
    c.heal()
    with c.quietly():
        slowest = max(c.order(f"laptop {it}", customer=it).expect_reply().ticks for it in range(20))
    c.expect(slowest < 20, "twenty orders meanwhile take less than 200 ms each")
    c.wait_until(lambda: c.count("state_transferred") > 0, f"{b} has copied the state")
    c.expect_same_state()
    c.expect(c.view_changes == entered, "nobody entered another view")
    c.wait_until(lambda: "syncing" not in c.replica(b).state.unfit, f"{b} is fit to lead again")


@scenario(shape=SHORT_LOG)
def rotten_source_of_a_state_transfer(c: NarratedCluster) -> None:
    """One peer's checkpoint is damaged: it says so, and the other one has it all (8.2)."""
    _, b, rotten = c.names
    fall_behind(c, b)
    manifest = c.disk(rotten).found.checkpoints.manifest(c.disk(rotten).checkpoint)
    assert manifest is not None
    c.tell(f"every chunk of {rotten}'s newest checkpoint decays on its disk")
    c.disk(rotten).rot_chunks(*(chunk.digest for chunk in manifest.manifest.chunks))
    gone = c.copy("Gone", src=rotten, dst=b)
    c.heal_partitions()
    c.wait_until(lambda: c.count("state_transferred") > 0, f"{b} has copied the state")
    c.expect(len(gone.letters) > 0, f"{rotten} said that it has no sound copy")
    c.expect_same_state()


@scenario(shape=SHORT_LOG)
def diverged_backup_rebuilds(c: NarratedCluster) -> None:
    """A backup's memory goes wrong: the next checkpoints show it, and the others' state replaces its own (9)."""
    b = c.names[1]
    c.orders(3)
    c.tell(f"a bit flips in the memory of {b}: its state is not the others' any more")
    c.replica(b).replica.flip()
    with c.quietly():
        for number in range(3 * INTERVAL):
            c.order(f"laptop {number}", customer=number).expect_reply()
    c.wait_until(lambda: c.count("diverged") == 1, f"after {3 * INTERVAL} orders {b} has noticed")
    c.wait_until(lambda: c.count("state_transferred") == 1, f"{b} has copied the others' state")
    c.expect(not c.replica(b).state.is_untrusted, f"{b} trusts itself again")
    c.expect_same_state()


def order_alone(c: NarratedCluster, name: str, *, ops: int) -> None:
    """Let a primary that is cut off order what nobody else will ever hold."""
    c.isolate(name)
    c.tell(f"clients that reach only {name} place {ops} orders there")
    with c.quietly():
        for number in range(ops):
            c.order(f"lonely {number}", customer=100 + number, via=name)
        c.run_for(10)
    c.cut_clients(name)
    c.expect(c.replica(name).head > 2 * INTERVAL, f"its log goes beyond op {2 * INTERVAL}: two checkpoints")


@scenario(shape=LONG_TAIL)
def dead_log_begins_afresh(c: NarratedCluster) -> None:
    """Who lost its state copies one before it hears of the new log: what it ordered alone chains to nothing (8.2)."""
    a, b, other = c.names
    c.orders(INTERVAL)
    c.run_for(20)
    old = c.disk(a).checkpoint
    order_alone(c, a, ops=3 * INTERVAL)
    new = c.await_primary(b, other)
    rest = other if new == b else b
    c.disk(rest).rot_chunks(old.digest)
    c.tell(f"the checkpoint of op {old.op} decays on the disk of {rest}; a few orders are placed without {a}")
    with c.quietly():
        for number in range(INTERVAL // 2):
            c.order(f"laptop {number}", customer=number).expect_reply()
    c.crash(a)
    c.tell(f"{a} loses its checkpoint")
    c.disk(a).lose_checkpoints()
    told, unasked = c.hold("StartView", dst=a), c.lose("GetChunk", src=a)
    c.tell(f"{a} comes back; what {new} tells it of the new log is late")
    c.mend(a, new, rest)
    c.restart(a)
    c.wait_until(lambda: bool(told.letters), f"{new} has told {a} the log of its view")
    c.cut(a, new)
    c.tell(f"from now on {a} hears {rest} only, while orders go on")
    with c.quietly():
        for number in range(2 * INTERVAL):
            c.order(f"later {number}", customer=number).expect_reply()
        c.run_for(20)
    unasked.stop()
    c.wait_until(lambda: c.count("state_transferred") > 0, f"{a} has copied a state from {rest}")
    state = c.replica(a).state
    c.expect(state.log.head == state.log.base.op, "nothing is left of what it ordered alone: its log begins there")
    c.tell(f"now the old news of the new log arrive: it ends below what {a} has")
    applied = state.applied
    c.mend(a, new)
    told.release()
    c.run_for(1)
    c.expect(state.applied == applied, f"{a} does not go back")
    c.heal()
    c.expect_same_state()


@scenario(shape=PROBED)
def one_wrong_answer_shows_in_a_probe(c: NarratedCluster) -> None:
    """A backup computes a single answer wrong, and its state is right: the next probe shows it (9)."""
    b = c.names[1]
    c.orders(3)
    c.tell(f"the next answer that {b} computes is wrong; nobody asked it")
    c.replica(b).replica.miscompute()
    with c.quietly():
        for number in range(2 * PROBED.limits.probe_interval_ops):
            c.order(f"laptop {number}", customer=number).expect_reply()
    c.wait_until(lambda: c.count("diverged") == 1, f"{b} has noticed, and serves nothing any more")
    with c.quietly():
        for number in range(3 * INTERVAL):
            c.order(f"later {number}", customer=number).expect_reply()
    c.wait_until(lambda: c.count("state_transferred") == 1, f"{b} has copied the others' state")
    c.expect_same_state()
