"""Makes the faults of a run happen, each at its time, and heals them all."""

from __future__ import annotations

from collections.abc import Callable

from sim.ambushes import Ambushes
from sim.choices import Key
from sim.cluster import SimCluster
from sim.congestion import Congestion
from sim.disk_faults import DiskFaults
from sim.partitions import Partitions
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
        self._partitions = Partitions(cluster, self._note, lambda: self.is_healed, self._victim)
        self._congestion = Congestion(cluster, self._note, lambda: self.is_healed, self._victim)
        # (operations ended, number, act, its index), the next one last.
        self._waiting: list[tuple[int, int, Callable[[int], None], int]] = []
        cluster.history.on_end = self._follow_work

    def schedule(self) -> None:
        """Put every fault of the plan on the clock."""
        plan = self.cluster.shape.faults
        if plan.settling is not None:
            self.cluster.scheduler.at(plan.settling, self._demand_stability)
        work = self.cluster.shape.workload.operations * self.cluster.shape.clients
        for label, count, act in (
            ("crash", plan.crashes, self._crash),
            ("power cut", plan.power_cuts, self._cut_power),
            ("pause", plan.pauses, self._pause),
            ("ambush", plan.ambushes, self._ambushes.spring),
            ("flip", plan.flips, self._flip),
            *self._partitions.plan(),
            *self._congestion.plan(),
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

    def _demand_stability(self) -> None:
        """All was well for long: nothing may disturb the view any more but what cuts off its primary (INV-34)."""
        isolated = self.cluster.shape.faults.isolations and self._choices.flag(("isolation", 0), 1.0)
        takes_primary = bool(isolated) and self._partitions.isolate()
        reason = "only a backup is cut off" if isolated else ""
        self.cluster.stable.demand(int(takes_primary), "its primary was replaced before" if takes_primary else reason)

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

    def _note(self, fault: str) -> None:
        self.fired += 1
        self.cluster.count(fault)
        self.cluster.trace(fault)
