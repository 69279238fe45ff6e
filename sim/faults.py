"""Makes the faults of a run happen, each at its time, and heals them all."""

from __future__ import annotations

from collections.abc import Callable

from sim.ambushes import Ambushes
from sim.ancient_messages import AncientMessages
from sim.beyond import Beyond
from sim.choices import Key
from sim.client_faults import ClientFaults
from sim.clocks import Clocks
from sim.cluster import SimCluster
from sim.congestion import Congestion
from sim.disk_faults import DiskFaults
from sim.last_wounds import LastWounds
from sim.minimal_quorums import MinimalQuorums
from sim.old_positions import OldPositions
from sim.partitions import Partitions
from sim.processes import Processes
from sim.replica import SimReplica
from sim.rotten_witnesses import RottenWitnesses
from sim.unproven_checkpoints import UnprovenCheckpoints

__all__ = ["FaultInjector"]

MS = 1000  # Microseconds.


class FaultInjector:
    """Makes the planned faults happen, and heals."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.is_healed = False
        self._choices = cluster.choices
        self._ambushes = Ambushes(cluster, self._note, lambda: self.is_healed)
        self._disks = DiskFaults(cluster, self._note, lambda: self.is_healed)
        self._processes = Processes(cluster, self._note, lambda: self.is_healed, self._victim, self._disks.expendable)
        self._partitions = Partitions(cluster, self._note, lambda: self.is_healed, self._victim)
        self._adversary = MinimalQuorums(cluster, self._note, lambda: self.is_healed)
        self._ancients = AncientMessages(cluster, self._note, lambda: self.is_healed)
        self._witnesses = RottenWitnesses(cluster, self._note, lambda: self.is_healed, self._disks.decays)
        self._positions = OldPositions(cluster, self._note, lambda: self.is_healed)
        self._last_wounds = LastWounds(cluster, self._note, self._disks)
        self._unproven = UnprovenCheckpoints(cluster, self._note, lambda: self.is_healed, self._disks.decays)
        self._clients = ClientFaults(cluster, self._note, lambda: self.is_healed)
        self._clocks = Clocks(cluster, self._note, lambda: self.is_healed, self._victim)
        self._congestion = Congestion(cluster, self._note, lambda: self.is_healed, self._victim)
        self._beyond = Beyond(cluster, self._note, lambda: self.is_healed, self._victim)
        # (operations ended, label, index, act), the next one last.
        self._waiting: list[tuple[int, str, int, Callable[[int], None]]] = []
        cluster.history.on_end = self._follow_work

    def schedule(self) -> None:
        """Put every fault of the plan on the clock."""
        plan = self.cluster.shape.faults
        if plan.settling is not None:
            self.cluster.scheduler.at(plan.settling, self._demand_stability)
        work = self.cluster.shape.workload.operations * self.cluster.shape.clients
        for label, count, act in (
            ("ambush", plan.ambushes, self._ambushes.spring),
            ("flip", plan.flips, self._flip),
            *self._processes.plan(),
            *self._partitions.plan(),
            *self._congestion.plan(),
            *self._clocks.plan(),
            *self._clients.plan(),
            *self._adversary.plan(),
            *self._ancients.plan(),
            *self._witnesses.plan(),
            *self._positions.plan(),
            *self._unproven.plan(),
            *self._disks.plan(),
            *self._beyond.plan(),
        ):
            for index in range(count):
                # A replayed run may leave out any one of them.
                if not self._choices.flag((label, index), 1.0):
                    continue
                if plan.follow_work:
                    ended = self._choices.number((label, index, "ended"), 0, work - 1, work // 2)
                    self._waiting.append((ended, label, index, act))
                else:
                    at = self._choices.number((label, index, "at"), 0, plan.duration, plan.duration // 2)
                    self.cluster.scheduler.at(at, act, index)
        self._waiting.sort(key=lambda waiting: waiting[:3], reverse=True)

    def _follow_work(self) -> None:
        """An operation ended: do what was to happen about now."""
        while self._waiting and self._waiting[-1][0] <= self.cluster.history.ended:
            _, label, index, act = self._waiting.pop()
            delay = self._choices.latency(("follow", label, index), 0, 10 * MS)
            self.cluster.scheduler.after(delay, act, index)

    def heal(self) -> None:
        """End every fault: from now on everybody runs and everything arrives."""
        self.is_healed = True
        self.cluster.network.heal()
        self._disks.heal()
        self._beyond.heal()
        self._clocks.heal()
        self._clients.heal()
        self._adversary.heal()
        self._witnesses.heal()
        self._positions.heal()
        self._processes.heal()

    def wound(self) -> None:
        """After everything healed, and before repair is demanded: what nobody's work covers up."""
        self._last_wounds.inflict()

    def _demand_stability(self) -> None:
        """All was well for long: nothing may disturb the view any more but what cuts off its primary (INV-34)."""
        isolated = self.cluster.shape.faults.isolations and self._choices.flag(("isolation", 0), 1.0)
        takes_primary = bool(isolated) and self._partitions.isolate()
        reason = "only a backup is cut off" if isolated else ""
        self.cluster.stable.demand(int(takes_primary), "its primary was replaced before" if takes_primary else reason)

    def _flip(self, index: int) -> None:
        """The memory of one replica goes wrong, once in a run.

        Where disks decay it is that of one of these: a wrong state here and a lost one there would leave no quorum
        of right ones, from which alone either is mended (PROTOCOL 9).
        """
        key: Key = ("flip", index, "who")
        decays = self._disks.decays
        replica = decays[self._choices.number(key, 0, len(decays) - 1, 0)].replica if decays else self._victim(key)
        if replica.core is not None and not self.is_healed:
            self._note("flip")
            self.cluster.facts.is_beyond |= self.cluster.shape.faults.is_beyond
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
        self.cluster.count(fault)
        self.cluster.trace(fault)
