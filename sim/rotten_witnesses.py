"""An adversary: of the two that hold an op one dies, and the other cannot read it any more when they need it most.

So a view change hears of an op that was acknowledged, maybe committed and answered, from somebody who cannot show it
and from others who never had it: they have to wait for the one that died (PROTOCOL 6.3, R-NACK; appendix A.4).
Chance rarely brings damage between its last acknowledgement and the next view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.disk import SECTOR_SIZE
from sim.disk_faults import LOG, PAGE, Decay
from sim.replica import SimReplica

__all__ = ["ROTTEN_WITNESSES", "RottenWitnesses"]

MS = 1000  # Microseconds.
ROTTEN_WITNESSES = ("rotten witness",)  # As counted.
LOOKS = 600  # For an op that nobody else holds, a millisecond each.
RECORDS_MAX = 3  # That rot at once.
PATIENCE_TICKS = 400  # For the others to change the view without the one that died.


class RottenWitnesses:
    """Makes the disks that decay the only witnesses of what commits, and takes their testimony from them."""

    def __init__(
        self, cluster: SimCluster, note: Callable[[str], None], is_over: Callable[[], bool], decays: Sequence[Decay]
    ) -> None:
        """`note(kind)` takes what happened; nothing happens once `is_over()`."""
        self._cluster = cluster
        self._choices: Choices = cluster.choices
        self._note = note
        self._is_over = is_over
        self._decays = decays
        self._held: list[SimReplica] = []  # Primaries that stay away for now.

    def plan(self) -> tuple[tuple[str, int, Callable[[int], None]], ...]:
        """What is to happen: name, how often, and how."""
        return (("rotten witness", self._cluster.shape.faults.rotten_witnesses, self._begin),)

    def heal(self) -> None:
        """Nobody is kept away any more."""
        while self._held:
            self._held.pop().is_held = False

    def _begin(self, index: int) -> None:
        """From now on only the witnesses hear their primary."""
        if self._is_over():
            return
        replicas = self._cluster.replicas
        primary = next((it for it in replicas if it.is_primary), None)
        witnesses = [it for it in self._decays if it.replica is not primary and it.replica.core is not None]
        if primary is None or not witnesses or len(witnesses) + 1 < self._cluster.facts.quorums.replication:
            return
        names = {primary.number, *(it.replica.number for it in witnesses)}
        others = [it.number for it in replicas if it.number not in names]
        network = self._cluster.network
        before = set(network.blocked)
        network.block([primary.number, *(it.replica.number for it in witnesses)], others, one_way=True)
        self._wait(index, primary, witnesses, network.blocked - before, LOOKS)

    def _wait(
        self, index: int, primary: SimReplica, witnesses: list[Decay], cut: set[tuple[int, int]], left: int
    ) -> None:
        facts = self._cluster.facts
        newest = facts.committed[facts.committed_op]
        holders = {number for number, disk in facts.disks.items() if newest in disk.given}
        names = {primary.number, *(it.replica.number for it in witnesses)}
        if self._is_over():
            return
        if holders and holders <= names and primary.is_primary:
            self._strike(index, primary, witnesses, cut)
        elif left:
            self._cluster.scheduler.idle += 1
            self._cluster.scheduler.after(1 * MS, self._wait, index, primary, witnesses, cut, left - 1)
        else:
            self._cluster.network.blocked.difference_update(cut)

    def _strike(self, index: int, primary: SimReplica, witnesses: list[Decay], cut: set[tuple[int, int]]) -> None:
        """Their primary dies for a while; they die as well, and come back at once with holes in their logs."""
        key: Key = ("rotten witness", index)
        self._note("rotten witness")
        primary.is_held = True
        self._held.append(primary)
        primary.crash(power=True)
        records = self._choices.number((*key, "records"), 1, RECORDS_MAX, 1)
        for decay in witnesses:
            decay.replica.crash(power=self._choices.flag((*key, "power", decay.replica.number), 0.5))
            decay.mark(LOG)
            self._rot(decay, records)
        self._cluster.network.blocked.difference_update(cut)
        for decay in witnesses:
            self._cluster.scheduler.after(1 * MS, self._start, decay.replica)
        patience = PATIENCE_TICKS * 10 * MS * self._cluster.shape.timeouts.suspect_ticks // 50
        self._cluster.scheduler.after(patience, self._let_go, primary)

    def _rot(self, decay: Decay, records: int) -> None:
        """The newest records of the journal."""
        used = [(file, decay.disk.sectors_in_use(file)) for file in sorted(decay.disk.files(LOG))]
        filled = [(file, sectors) for file, sectors in used if sectors]
        if not filled:
            return
        file, sectors = filled[-1]
        pages = sorted({sector * SECTOR_SIZE // PAGE for sector in sectors})[-records:]
        for sector in sectors:
            if sector * SECTOR_SIZE // PAGE in pages:
                decay.disk.rot(file, sector)

    def _let_go(self, primary: SimReplica) -> None:
        if primary in self._held:
            self._held.remove(primary)
            primary.is_held = False
            self._start(primary)

    def _start(self, replica: SimReplica) -> None:
        if not (replica.is_up or replica.is_held or replica.is_stopped):
            replica.start()
