"""The demo of a dying disk: a replica comes back to random bytes, repairs itself, and proves that it did.

A replica is killed under load. While it is down, its log, all its proofs, one copy of its superblock and
a chunk of its checkpoint are overwritten. It is started again, and nobody does anything more about it.
"""

from __future__ import annotations

import secrets

import attrs
import trio

from trio_pb.core.messages import Status, StatusReport
from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient
from trio_pb.driver.reception import CHECKPOINT_OP, UNFIT_PREFIX
from trio_pb.errors import ConfigError
from trio_pb.testbed.cluster import LocalCluster, NotReachedError, local_cluster
from trio_pb.testbed.decay import Decay, decay
from trio_pb.testbed.demo import Load, Watcher
from trio_pb.testbed.gate import Gate
from trio_pb.testbed.proof import ReplicaProof, prove

__all__ = ["REPAIRS", "REPLICAS", "DiskDemoResult", "run_disk_demo"]

REPLICAS = 3
CHECKPOINT_INTERVAL = 32  # Ops: a short demo is to have checkpoints.
# Of each customer, one after the other, hence in as many ops: of these, 0.4 come before the kill.
ORDERS_MIN = 100
POLL_SECONDS = 0.05
REPAIR_SECONDS_MAX = 30.0

# What the repaired replica tells among its counters, and in what words.
REPAIRS = {
    "superblock_copies_damaged": "copies of the superblock found damaged, written again",
    "proof_copies_damaged": "copies of proofs found damaged",
    "state_lost": "times no checkpoint loaded",
    "chunks_stored": "chunks of a checkpoint fetched from the others",
    "chunk_bytes_received": "bytes of chunks fetched",
    "state_transferred": "states copied and verified",
    "repaired": "records of the log fetched from the others",
}


@attrs.frozen(kw_only=True)
class DiskDemoResult:
    """What the demo found."""

    acked: int
    expected: int
    acked_while_down: int  # Orders that the other two took without it.
    acked_after: int  # After it was back.
    damaged: int  # Which replica.
    decay: Decay
    repair_seconds: float  # From its start until it took part, whole again.
    repairs: dict[str, int]  # Its counters, see REPAIRS.
    proofs: tuple[ReplicaProof, ...]
    statuses: tuple[StatusReport, ...]

    @property
    def digests_equal(self) -> bool:
        """Whether all states are equal."""
        return len({status.state_digest for status in self.statuses}) == 1

    @property
    def is_repaired(self) -> bool:
        """Whether what was damaged was found, and replaced by what the others have."""
        found = self.repairs
        return (  # At least: scrubbing may find again what the start found, before it is written anew.
            found["superblock_copies_damaged"] >= self.decay.superblock_copies
            and found["proof_copies_damaged"] >= self.decay.proof_copies
            and found["state_lost"] > 0
            and found["chunks_stored"] > 0
            and found["state_transferred"] > 0
        )

    @property
    def lost(self) -> int:
        """Acknowledged orders that some replica does not have."""
        return max(proof.lost for proof in self.proofs)

    @property
    def duplicated(self) -> int:
        """Orders that some replica has twice, or that nobody acknowledged."""
        return max(proof.duplicated for proof in self.proofs)

    @property
    def ok(self) -> bool:
        """Whether all that the demo is to show held."""
        return (
            self.acked == self.expected
            and self.acked_while_down > 0
            and self.acked_after > 0
            and self.lost == self.duplicated == 0
            and all(proof.last_orders_wrong == proof.misplaced == 0 for proof in self.proofs)
            and self.digests_equal
            and self.is_repaired
        )


@attrs.define
class _Story:
    """What happens in the middle of the load."""

    cluster: LocalCluster
    gate: Gate
    total: int
    watcher: Watcher
    damaged: int = -1
    decay: Decay | None = None
    acked_at_kill: int = 0
    acked_at_return: int = 0
    repair_seconds: float = 0.0
    repairs: dict[str, int] = attrs.Factory(dict[str, int])

    async def run(self) -> None:
        """Kill a backup, damage its disk, start it again, wait until it is whole."""
        cluster, gate = self.cluster, self.gate
        await self._reach(0.4)
        leader = await cluster.wait_primary()
        victim = self.damaged = (leader + 1) % REPLICAS
        await self._wait_checkpoint(victim)
        await cluster.kill(victim)
        self.acked_at_kill = gate.acked
        self.watcher.on_event(f"replica {victim} killed with SIGKILL after {gate.acked} orders")
        found = self.decay = await trio.to_thread.run_sync(decay, cluster.data(victim), secrets.randbits(64))
        self.watcher.on_event(
            f"random bytes over its disk: {found.records} records of the log, {found.proof_copies} copies of proofs, "
            f"{found.superblock_copies} of 4 copies of the superblock, a chunk of its checkpoint"
        )
        await self._reach(0.7)
        self.acked_at_return = gate.acked
        began = trio.current_time()
        await cluster.restart(victim)
        self.watcher.on_event(f"replica {victim} started again after {gate.acked} orders")
        await self._wait_whole(victim)
        self.repair_seconds = trio.current_time() - began
        self.watcher.on_event(f"replica {victim} repaired itself in {self.repair_seconds:.1f} s")
        gate.open_to(self.total)

    async def _reach(self, share: float) -> None:
        """Wait until this share of all orders is acknowledged; the load goes on a little further."""
        self.gate.open_to(round(self.total * (share + 0.2)))
        await self.gate.wait_acked(round(self.total * share))

    async def _wait_checkpoint(self, replica: int) -> None:
        with trio.move_on_after(REPAIR_SECONDS_MAX):
            while True:
                status = await self.cluster.status(replica)
                if status is not None and dict(status.counters)[CHECKPOINT_OP]:
                    return
                await trio.sleep(POLL_SECONDS)
        raise NotReachedError(f"replica {replica} made no checkpoint; {self.cluster.process(replica).tail()}")

    async def _wait_whole(self, replica: int) -> None:
        """Until it takes part, has caught up and would lead: nothing is left to be repaired."""
        with trio.move_on_after(REPAIR_SECONDS_MAX):
            while True:
                status = await self.cluster.wait_normal(replica)
                counters = dict(status.counters)
                if status.status is Status.NORMAL and not any(name.startswith(UNFIT_PREFIX) for name in counters):
                    self.repairs = {name: counters.get(name, 0) for name in REPAIRS}
                    return
                await trio.sleep(POLL_SECONDS)
        raise NotReachedError(f"replica {replica} is not whole again; {self.cluster.process(replica).tail()}")


async def run_disk_demo(*, customers: int, orders: int, watcher: Watcher) -> DiskDemoResult:
    """Run the whole demo on a cluster of its own.

    Raises:
        ConfigError: the numbers make no demo.
        TrioPbError: the cluster did not do what it should; nothing is left of it.
    """
    if customers < 1 or orders < ORDERS_MIN:
        raise ConfigError(f"--orders {orders}: must be at least {ORDERS_MIN}, or there is no checkpoint to damage")
    total = customers * orders
    flags = ("--checkpoint-interval", str(CHECKPOINT_INTERVAL))
    async with local_cluster(REPLICAS, name="demo", flags=flags) as cluster:
        await cluster.wait_primary()
        watcher.on_event(f"{REPLICAS} replicas are up")
        load = Load(customers, orders, Gate(0), watcher)
        story = _Story(cluster, load.gate, total, watcher)
        async with connect(cluster.addresses) as client, trio.open_nursery() as nursery:
            nursery.start_soon(story.run)
            await load.run(OrderClient(client))
        watcher.on_event("all orders acknowledged; each replica now proves what it holds")
        statuses = await cluster.wait_agreed()
        proofs = [
            await prove(replica, cluster.addresses[replica], load.placed, customers=customers, orders=orders)
            for replica in cluster.replicas
        ]
    assert story.decay is not None
    return DiskDemoResult(
        acked=load.gate.acked,
        expected=total,
        acked_while_down=story.acked_at_return - story.acked_at_kill,
        acked_after=load.gate.acked - story.acked_at_return,
        damaged=story.damaged,
        decay=story.decay,
        repair_seconds=story.repair_seconds,
        repairs=story.repairs,
        proofs=tuple(proofs),
        statuses=tuple(statuses.values()),
    )
