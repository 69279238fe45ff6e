"""An adversary: a checkpoint that alone binds its replica cannot be read any more (PROTOCOL 8.1, R-PROOF).

What a replica executes while it changes views no proof covers yet: these are written in a view only. So the newest
checkpoint is all that says how far its log was durable; whoever falls back on an older one must not forget that.
It takes a log whose entries are known and not yet here, a second view change while they come, and damage right then.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import attrs

from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.disk import SECTOR_SIZE
from sim.disk_faults import PACKS, Decay
from sim.network import DropRule, Payload
from sim.oracles.facts import watermark_of
from sim.replica import SimReplica
from trio_pb.core.messages import PrepareCopy, PrepareMessage, Status
from trio_pb.core.state import State

__all__ = ["UNPROVEN_CHECKPOINTS", "UnprovenCheckpoints"]

MS = 1000  # Microseconds.
UNPROVEN_CHECKPOINTS = ("unproven checkpoint",)  # As counted.
LOOKS = 2500  # In all, a millisecond each.
LATE = 10_000 * MS  # What must not come now.
INTERVAL_OPS_MAX = 16  # A run is too short to wait for checkpoints that are further apart.


class UnprovenCheckpoints:
    """Keeps a disk that decays from proving what it executes, and takes its newest checkpoint from it."""

    def __init__(
        self, cluster: SimCluster, note: Callable[[str], None], is_over: Callable[[], bool], decays: Sequence[Decay]
    ) -> None:
        """`note(kind)` takes what happened; nothing happens once `is_over()`."""
        self._cluster = cluster
        self._choices: Choices = cluster.choices
        self._note = note
        self._is_over = is_over
        self._decays = decays

    def plan(self) -> tuple[tuple[str, int, Callable[[int], None]], ...]:
        """What is to happen: name, how often, and how."""
        return (("unproven checkpoint", self._cluster.shape.faults.unproven_checkpoints, self._begin),)

    def _begin(self, index: int) -> None:
        """From now on the victim hears how far the others are, and gets nothing of it."""
        interval = self._cluster.shape.limits.checkpoint_interval_ops
        able = [it for it in self._decays if it.replica.core is not None and not it.replica.is_primary]
        if self._is_over() or not able or interval > INTERVAL_OPS_MAX or len(self._cluster.replicas) < 3:
            return
        self._follow(self._stages(("unproven checkpoint", index), able[0]), LOOKS)

    def _follow(self, stages: Generator[bool, None, None], left: int) -> None:
        """Look every millisecond whether what comes next may come."""
        if left and not self._is_over() and next(stages, False):
            self._cluster.scheduler.idle += 1
            self._cluster.scheduler.after(1 * MS, self._follow, stages, left - 1)
        else:
            stages.close()

    def _stages(self, key: Key, victim: Decay) -> Generator[bool, None, None]:
        """Yield whenever there is something to wait for."""
        network, facts, replica = self._cluster.network, self._cluster.facts, victim.replica
        interval = self._cluster.shape.limits.checkpoint_interval_ops
        others = [it for it in self._cluster.replicas if it is not replica]
        rule = DropRule(kind="StartView", destination=replica.number)

        def late(_: int, destination: int, payload: Payload) -> int:
            is_body = isinstance(payload.message, PrepareMessage | PrepareCopy)
            return LATE if is_body and destination == replica.number else 0

        try:
            while (state := _state(replica)) is None or not state.is_backup:
                yield True
            due = (state.log.head // interval + 1) * interval
            # It hears how far the others are and gets nothing of it, and nobody has room for the next checkpoint.
            network.taps.append(late)
            while facts.committed_op < due - 1:
                yield True
            for other in others:
                other.disk.is_full = True
            while facts.committed_op < due:
                yield True
            view = replica.view
            self._change_view()
            # Another leads, so it is told the log anew, and none of it comes.
            while (state := _state(replica)) is None or state.log_view == view or state.commit_max < due:
                yield True
            network.rules.append(rule)
            self._change_view()
            while (state := _state(replica)) is None or state.status is not Status.VIEW_CHANGE:
                yield True
            network.taps.remove(late)
            while not self._is_bare(replica):
                yield True
            self._strike(key, victim)
        finally:
            if late in network.taps:
                network.taps.remove(late)
            if rule in network.rules:
                network.rules.remove(rule)
            for other in others:
                other.disk.is_full = False

    def _change_view(self) -> None:
        """Whoever leads dies, and is back at once: that ends its view."""
        for replica in self._cluster.replicas:
            if replica.is_primary:
                replica.crash(power=False)
                self._cluster.scheduler.after(1 * MS, self._start, replica)

    def _is_bare(self, replica: SimReplica) -> bool:
        """Whether its newest checkpoint binds it to more than anything else on its disk, and an older one will load."""
        disk = self._cluster.facts.disks[replica.number]
        image = disk.superblock
        if image.certified.op >= image.checkpoint.op:
            return False
        return watermark_of(disk.proof, attrs.evolve(image, checkpoint=image.certified)) < image.checkpoint.op

    def _strike(self, key: Key, victim: Decay) -> None:
        """It dies, and the newest checkpoint lacks its manifest when it comes back."""
        replica = victim.replica
        newest = self._cluster.facts.disks[replica.number].superblock.checkpoint
        replica.crash(power=self._choices.flag((*key, "power"), 0.5))
        for file in victim.disk.files(PACKS):
            data = victim.disk.contents(file, 0, victim.disk.size_of(file))
            at = data.find(newest.digest)
            if at >= 0:
                victim.mark(PACKS)
                victim.disk.rot(file, at // SECTOR_SIZE)
                self._note("unproven checkpoint")
        self._cluster.scheduler.after(1 * MS, self._start, replica)

    def _start(self, replica: SimReplica) -> None:
        if not (replica.is_up or replica.is_held or replica.is_stopped):
            replica.start()


def _state(replica: SimReplica) -> State | None:
    return replica.core.state if replica.core is not None else None
