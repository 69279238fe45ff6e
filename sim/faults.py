"""Makes the faults of a run happen, each at its time, and heals them all."""

from __future__ import annotations

from collections.abc import Callable

from sim.ambushes import Ambushes
from sim.choices import Key
from sim.cluster import SimCluster
from sim.disk_faults import DiskFaults
from sim.network import CLIENT_NODES
from sim.replica import SimReplica

__all__ = ["FaultInjector"]

MS = 1000  # Microseconds.
OPENING_CRASHES = 0.15  # Of the restarts.


class FaultInjector:
    """Makes the planned faults happen, and heals."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.fired = 0
        self.is_healed = False
        self._choices = cluster.choices
        for replica in cluster.replicas:
            replica.on_crash = self._restart_later
        self._crashes = 0
        self._ambushes = Ambushes(cluster, self._note, lambda: self.is_healed)
        self._disks = DiskFaults(cluster, self._note, lambda: self.is_healed)
        # (operations ended, number, act, its index), the next one last.
        self._waiting: list[tuple[int, int, Callable[[int], None], int]] = []
        cluster.history.on_end = self._follow_work

    def schedule(self) -> None:
        """Put every fault of the plan on the clock."""
        plan = self.cluster.shape.faults
        work = self.cluster.shape.workload.operations * self.cluster.shape.clients
        for label, count, act in (
            ("crash", plan.crashes, self._crash),
            ("power cut", plan.power_cuts, self._cut_power),
            ("pause", plan.pauses, self._pause),
            ("partition", plan.partitions, self._partition),
            ("ambush", plan.ambushes, self._ambushes.spring),
            ("flip", plan.flips, self._flip),
            *self._disks.plan(),
        ):
            for index in range(count):
                # A replayed run may leave out any one of them.
                if not self._choices.flag((label, index), 1.0):
                    continue
                if plan.follow_work:
                    ended = self._choices.number((label, index, "ended"), 0, work - 1, work // 2)
                    self._waiting.append((ended, len(self._waiting), act, index))
                else:
                    at = self._choices.number((label, index, "at"), 0, plan.duration, plan.duration // 2)
                    self.cluster.scheduler.at(at, act, index)
        self._waiting.sort(key=lambda waiting: waiting[:2], reverse=True)

    def _follow_work(self) -> None:
        """An operation ended: do what was to happen about now."""
        while self._waiting and self._waiting[-1][0] <= self.cluster.history.ended:
            ended, number, act, index = self._waiting.pop()
            delay = self._choices.latency(("follow", ended, number), 0, 10 * MS)
            self.cluster.scheduler.after(delay, act, index)

    def heal(self) -> None:
        """End every fault: from now on everybody runs and everything arrives."""
        self.is_healed = True
        self.cluster.network.heal()
        self._disks.heal()
        for replica in self.cluster.replicas:
            replica.plan_crash(power=False, after_outputs=None, after_steps=None)
            if replica.is_paused:
                replica.resume()
            self._restart(replica)

    # --- Crashes ------------------------------------------------------------------------------

    def _crash(self, index: int) -> None:
        """Kill one replica: at once, inside a turn, or inside the disk's work."""
        replica = self._victim(("crash", index, "who"))
        if not replica.is_up or self.is_healed:
            return
        plan = self.cluster.shape.faults
        choices = self._choices
        power = not choices.flag(("crash", index, "process only"), plan.process_share)
        where = choices.number(("crash", index, "where"), 0, 2, 0)
        self._note("crash planned")
        if where == 0:
            replica.crash(power=power)
        elif where == 1:
            after = choices.number(("crash", index, "outputs"), 0, 12, 0)
            replica.plan_crash(power=power, after_outputs=after, after_steps=None)
        else:
            after = choices.number(("crash", index, "steps"), 0, 12, 0)
            replica.plan_crash(power=power, after_outputs=None, after_steps=after)

    def _cut_power(self, _: int) -> None:
        """All machines at once."""
        if not self.is_healed:
            self._note("power cut")
            for replica in self.cluster.replicas:
                replica.crash(power=True)

    def _restart_later(self, replica: SimReplica, power: bool) -> None:
        self._crashes += 1
        mean = self.cluster.shape.faults.down_mean
        delay = self._choices.latency(("down", self._crashes, replica.number, power), 1, mean)
        self.cluster.scheduler.after(delay, self._restart, replica)

    def _restart(self, replica: SimReplica) -> None:
        if replica.is_up or replica.is_stopped:
            return
        if not self.is_healed and self._choices.flag(("opening", self._crashes), OPENING_CRASHES):
            # Twice in a row, the second time while the disk is being put in order (T-35).
            steps = self._choices.number(("opening", self._crashes, "steps"), 0, 60, 0)
            replica.plan_crash(power=True, after_outputs=None, after_steps=steps)
        replica.start()

    def _pause(self, index: int) -> None:
        replica = self._victim(("pause", index, "who"))
        if replica.is_up and not self.is_healed:
            self._note("pause")
            replica.pause()
            duration = self._choices.latency(("pause", index, "long"), 10 * MS, self.cluster.shape.faults.pause_mean)
            self.cluster.scheduler.after(duration, replica.resume)

    def _flip(self, index: int) -> None:
        """The memory of one replica goes wrong, once in a run."""
        replica = self._victim(("flip", index, "who"))
        if replica.core is not None and not self.is_healed:
            self._note("flip")
            replica.flip()

    def _victim(self, key: Key) -> SimReplica:
        """A replica; in half of the cases the primary, if there is one."""
        replicas = self.cluster.replicas
        chosen = self._choices.number(key, 0, 2 * len(replicas) - 1, 0)
        if chosen >= len(replicas):
            for replica in replicas:
                if replica.is_primary:
                    return replica
        return replicas[chosen % len(replicas)]

    # --- Partitions ---------------------------------------------------------------------------

    def _partition(self, index: int) -> None:
        """Cut the network in one of several shapes; mend it later."""
        if self.is_healed:
            return
        network = self.cluster.network
        before = set(network.blocked)
        key: Key = ("partition", index)
        numbers = [replica.number for replica in self.cluster.replicas]
        victim = self._victim((*key, "who")).number
        others = [number for number in numbers if number != victim]
        shape = self._choices.number((*key, "shape"), 0, 6, 0)
        one_way = self._choices.flag((*key, "one way"), 0.3)
        if shape == 0:  # One against the rest.
            network.block([victim], others, one_way=one_way)
        elif shape == 1:  # The same, other direction if one way.
            network.block(others, [victim], one_way=one_way)
        elif shape == 2:  # Two sides.
            sides = self._choices.number((*key, "sides"), 0, (1 << len(numbers)) - 1, 1)
            left = [number for number in numbers if sides >> number & 1]
            network.block(left, [number for number in numbers if number not in left], one_way=one_way)
        elif shape == 3:  # Only through a hub: no two others hear each other.
            network.block(others, others)
        elif shape == 4:  # One link.
            network.block([victim], others[:1], one_way=one_way)
        elif shape == 5:  # Any directed links.
            links = self._choices.bits((*key, "links"))
            for position, (source, destination) in enumerate((s, d) for s in numbers for d in numbers if s != d):
                if links >> position & 1:
                    network.block([source], [destination], one_way=True)
        else:  # Clients cannot reach one replica.
            network.block([client.node for client in self.cluster.clients], [victim], one_way=one_way)
        assert all(min(link) < CLIENT_NODES for link in network.blocked)
        self._note("partition")
        made = network.blocked - before
        duration = self._choices.latency((*key, "long"), 50 * MS, self.cluster.shape.faults.partition_mean)
        self.cluster.scheduler.after(duration, network.blocked.difference_update, made)

    def _note(self, fault: str) -> None:
        self.fired += 1
        self.cluster.count(fault)
        self.cluster.trace(fault)
