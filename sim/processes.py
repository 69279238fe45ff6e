"""What befalls processes and machines: crashes, restarts, pauses, slowness, orders to hand over, and lost disks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from sim.choices import Key
from sim.cluster import SimCluster
from sim.fault_family import FaultFamily, Planned
from sim.replica import SimReplica
from trio_pb.core.ports import Transfer
from trio_pb.storage.proofs import PROOFS_FILE
from trio_pb.storage.superblock import SUPERBLOCK_FILE

__all__ = ["PROCESSES", "Processes"]

MS = 1000  # Microseconds.
# As counted.
PROCESSES = (
    *("crashes", "power cut", "pause", "long pause", "late restart", "restart loop", "slow node", "wiped disk"),
    "hand-over",
)
OPENING_CRASHES = 0.15  # Of the restarts.
# Files of which restart loops tear what is being written; one loop in four tears whatever it is.
AIMS = ("", SUPERBLOCK_FILE, PROOFS_FILE, PROOFS_FILE)
AIMED_CRASHES = 0.15  # Of the crashes: they wait for such a flush, be it in the next view change.
BOOT_MAX = 150 * MS  # How long a boot of a restart loop lasts.
LONG = 20  # Times the usual: longer than every time-out.
LONG_SHARE = 0.15  # Of the pauses and of the restarts after a crash.


class Processes(FaultFamily):
    """Crashes, pauses and slows the replicas of a run as its plan says, and starts them again."""

    def __init__(
        self,
        cluster: SimCluster,
        note: Callable[[str], None],
        is_over: Callable[[], bool],
        victim: Callable[[Key], SimReplica],
        expendable: Callable[[int], SimReplica],
    ) -> None:
        """`expendable(index)` names one whose disk may be lost with all that it holds, and the others still have it."""
        super().__init__(cluster, note, is_over, victim)
        self._expendable = expendable
        self._crashes: Counter[int] = Counter()  # So far, by replica.
        self._loops: dict[int, int] = {}  # Replica -> crashes in a row that are still to come,
        self._aims: dict[int, str] = {}  # and the file whose flushes they strike; empty: anything.
        for replica in cluster.replicas:
            replica.on_crash = self._restart_later

    def plan(self) -> Planned:
        """What is to happen: name, how often, and how."""
        plan = self._cluster.shape.faults
        return (
            ("crash", plan.crashes, self._crash),
            ("power cut", plan.power_cuts, self._cut_power),
            ("pause", plan.pauses, self._pause),
            ("restart loop", plan.restart_loops, self._loop),
            ("slow node", plan.slow_nodes, self._slow),
            ("wipe", plan.wipes, self._wipe),
            ("hand-over", plan.hand_overs, self._hand_over),
        )

    def heal(self) -> None:
        """Everybody runs, as fast as it can."""
        self._loops.clear()
        for replica in self._cluster.replicas:
            replica.plan_crash(power=False)
            replica.turn_delay = self._cluster.shape.turn_delay
            if replica.is_paused:
                replica.resume()
            self._restart(replica)

    # --- Crashes ------------------------------------------------------------------------------

    def _crash(self, index: int) -> None:
        """Kill one replica: at once, inside a turn, or inside the disk's work."""
        replica = self._victim(("crash", index, "who"))
        if not replica.is_up or self._is_over():
            return
        plan = self._cluster.shape.faults
        choices = self._choices
        power = not choices.flag(("crash", index, "process only"), plan.process_share)
        where = choices.number(("crash", index, "where"), 0, 2, 0)
        self._note("crash planned")
        if choices.flag(("crash", index, "aimed"), AIMED_CRASHES):
            file = AIMS[choices.number(("crash", index, "aim"), 1, len(AIMS) - 1, 1)]
            flushes = choices.number(("crash", index, "flushes"), 0, 3, 0)
            replica.plan_crash(power=True, at_flush=(file, flushes))
        elif where == 0:
            replica.crash(power=power)
        elif where == 1:
            after = choices.number(("crash", index, "outputs"), 0, 12, 0)
            replica.plan_crash(power=power, after_outputs=after, after_steps=None)
        else:
            after = choices.number(("crash", index, "steps"), 0, 12, 0)
            replica.plan_crash(power=power, after_outputs=None, after_steps=after)

    def _cut_power(self, _: int) -> None:
        """All machines at once."""
        if not self._is_over():
            self._note("power cut")
            for replica in self._cluster.replicas:
                replica.crash(power=True)

    def _loop(self, index: int) -> None:
        """One replica dies again and again soon after it started."""
        key: Key = ("restart loop", index)
        replica = self._victim((*key, "who"))
        if replica.is_up and not self._is_over():
            self._note("restart loop")
            self._loops[replica.number] = self._choices.number((*key, "times"), 2, 8, 2)
            self._aims[replica.number] = AIMS[self._choices.number((*key, "aim"), 0, len(AIMS) - 1, 0)]
            replica.crash(power=self._choices.flag((*key, "power"), 0.5))

    def _restart_later(self, replica: SimReplica, power: bool) -> None:
        self._crashes[replica.number] += 1
        mean = self._cluster.shape.faults.down_mean
        if replica.number in self._loops:
            mean = min(mean, 20 * MS)
        elif not self._is_over() and self._choices.flag(self._key("late", replica), LONG_SHARE):
            mean *= LONG
            self._note("late restart")
        delay = self._choices.latency((*self._key("down", replica), power), 1, mean)
        self._cluster.scheduler.after(delay, self._restart, replica)

    def _restart(self, replica: SimReplica) -> None:
        if replica.is_up or replica.is_stopped or replica.is_held:
            return
        if self._loops.get(replica.number):
            self._die_again(replica)
        elif not self._is_over() and self._choices.flag(self._key("opening", replica), OPENING_CRASHES):
            # Twice in a row, the second time while the disk is being put in order (T-35).
            steps = self._choices.number((*self._key("opening", replica), "steps"), 0, 60, 0)
            replica.plan_crash(power=True, after_outputs=None, after_steps=steps)
        replica.start()

    def _key(self, label: str, replica: SimReplica) -> Key:
        """What is decided after a crash is named by the replica and by how often it crashed."""
        return (label, replica.number, self._crashes[replica.number])

    def _die_again(self, replica: SimReplica) -> None:
        """The boot that comes ends soon: while it opens its storage, or among its first words."""
        left = self._loops[replica.number] - 1
        self._loops[replica.number] = left
        if left == 0:
            del self._loops[replica.number]
        key = self._key("loop", replica)
        if self._aims[replica.number]:
            # Half of what one image consists of is torn, then half of the next one (T-35, T-36).
            flushes = self._choices.number((*key, "flushes"), 0, 4, 0)
            replica.plan_crash(power=True, at_flush=(self._aims[replica.number], flushes))
            self._cluster.scheduler.after(BOOT_MAX, self._end_boot, replica, replica.boots + 1, True)
            return
        steps = self._choices.number((*key, "steps"), 0, 90, 90)
        outputs = self._choices.number((*key, "outputs"), 0, 30, 30)
        in_turn = self._choices.flag((*key, "in a turn"), 0.5)
        power = self._choices.flag((*key, "power"), 0.5)
        replica.plan_crash(
            power=power, after_outputs=outputs if in_turn else None, after_steps=None if in_turn else steps
        )
        # One that has little to do would outlive that.
        self._cluster.scheduler.after(BOOT_MAX, self._end_boot, replica, replica.boots + 1, power)

    def _end_boot(self, replica: SimReplica, boot: int, power: bool) -> None:
        if replica.boots == boot and not self._is_over():
            replica.crash(power=power)

    # --- Pauses and slowness --------------------------------------------------------------------

    def _pause(self, index: int) -> None:
        """One replica stops for a while, sometimes for longer than everything that others wait for."""
        key: Key = ("pause", index)
        replica = self._victim((*key, "who"))
        if not replica.is_up or self._is_over():
            return
        mean = self._cluster.shape.faults.pause_mean
        is_long = self._choices.flag((*key, "very long"), LONG_SHARE)
        self._note("long pause" if is_long else "pause")
        replica.pause()
        duration = self._choices.latency((*key, "long"), 10 * MS, mean * LONG if is_long else mean)
        self._cluster.scheduler.after(duration, replica.resume)

    def _slow(self, index: int) -> None:
        """One replica is slow in everything that it does: turns, and the work of its disk."""
        if self._is_over():
            return
        key: Key = ("slow node", index)
        replica = self._victim((*key, "who"))
        replica.turn_delay = (5, 20, 80)[self._choices.number((*key, "turns"), 0, 2, 0)] * MS
        self._note("slow node")
        duration = self._choices.latency((*key, "long"), 50 * MS, 4 * self._cluster.shape.faults.pause_mean)
        self._cluster.scheduler.after(duration, self._hurry, replica)

    def _hurry(self, replica: SimReplica) -> None:
        replica.turn_delay = self._cluster.shape.turn_delay

    # --- Orders -----------------------------------------------------------------------------------

    def _hand_over(self, _: int) -> None:
        """Whoever leads is told to let another lead, as before an orderly stop (PROTOCOL 11)."""
        leading = [replica for replica in self._cluster.replicas if replica.is_primary]
        if leading and not self._is_over():
            self._note("hand-over")
            leading[0].take(Transfer())

    # --- Loss -------------------------------------------------------------------------------------

    def _wipe(self, index: int) -> None:
        """A machine dies with its disk, and comes back with an empty one that was formatted under the old id."""
        if self._is_over():
            return
        if not all(disk.superblock.born for disk in self._cluster.facts.disks.values()):
            # A cluster of which a member is lost before all have met never begins (7.6).
            self._cluster.scheduler.after(100 * MS, self._wipe, index)
            return
        replica = self._expendable(index)
        if replica.is_wiped or sum(not other.is_wiped for other in self._cluster.replicas) == 1:
            return  # Whoever formats all of them has made another cluster.
        self._cluster.facts.is_beyond |= self._cluster.shape.faults.is_beyond
        self._note("wiped disk")
        replica.crash(power=True)
        self._cluster.wipe(replica)
