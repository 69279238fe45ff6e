"""An adversary: a backup asks how far a read must be, dies and asks again, and hears what its last boot was told.

A network may keep an answer for that long. The number of a boot is all that tells it from the right one, which is on
its way and may name a later op (PROTOCOL 3.2, 10.2; T-38). By chance a read that waits, a restart within the
view and a message that is late for both hardly ever meet.
"""

from __future__ import annotations

from collections.abc import Callable

from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.network import Payload
from sim.raw_client import HereReader
from sim.replica import SimReplica
from trio_pb.core import messages

__all__ = ["OLD_POSITIONS", "OldPositions"]

MS = 1000  # Microseconds.
OLD_POSITIONS = ("old position",)  # As counted.
LOOKS = 400  # For the next thing to happen, a millisecond each.


class OldPositions:
    """Remembers what each replica was told for its reads, and tells its next boot."""

    def __init__(self, cluster: SimCluster, note: Callable[[str], None], is_over: Callable[[], bool]) -> None:
        """`note(kind)` takes what happened; nothing happens once `is_over()`."""
        self._cluster = cluster
        self._choices: Choices = cluster.choices
        self._note = note
        self._is_over = is_over
        self._reader: HereReader | None = None  # Made when first needed, as the ear is.
        self._told: dict[int, tuple[int, Payload]] = {}  # Replica -> who told it what last.

    def plan(self) -> tuple[tuple[str, int, Callable[[int], None]], ...]:
        """What is to happen: name, how often, and how."""
        return (("old position", self._cluster.shape.faults.old_positions, self._begin),)

    def heal(self) -> None:
        """Nobody reads here any more."""
        if self._reader is not None:
            self._reader.hang_up()

    def _begin(self, index: int) -> None:
        """Have a backup ask for a read."""
        if self._is_over():
            return
        backups = [it for it in self._cluster.replicas if it.core is not None and it.core.state.is_backup]
        if not backups:
            return
        if self._reader is None:
            self._reader = self._cluster.add_client_of(HereReader)
            self._cluster.network.listeners.append(self._hear)
        key: Key = ("old position", index)
        replica = backups[self._choices.number((*key, "who"), 0, len(backups) - 1, 0)]
        self._told.pop(replica.number, None)
        self._reader.ask(replica.number)
        self._when(lambda: replica.number in self._told, self._restart, key, replica, replica.view)

    def _restart(self, key: Key, replica: SimReplica, view: int) -> None:
        """It was told a position, or is just about to be."""
        later = self._choices.latency((*key, "later"), 1, 5 * MS)
        self._cluster.scheduler.after(later, self._die, key, replica, view)

    def _die(self, key: Key, replica: SimReplica, view: int) -> None:
        if self._is_over():
            return
        replica.crash(power=self._choices.flag((*key, "power"), 0.5))
        self._cluster.scheduler.after(1 * MS, self._start, replica)

        def is_back() -> bool:
            return replica.core is not None and replica.core.state.is_backup and replica.view == view

        self._when(is_back, self._ask_again, replica)

    def _start(self, replica: SimReplica) -> None:
        if not (replica.is_up or replica.is_held or replica.is_stopped):
            replica.start()

    def _ask_again(self, replica: SimReplica) -> None:
        assert self._reader is not None
        self._note("old position")
        self._reader.ask(replica.number)

    def _hear(self, source: int, destination: int, payload: Payload) -> None:
        message = payload.message
        if type(message) is messages.ReadIndexOk:
            self._told[destination] = source, payload
        elif type(message) is messages.ReadIndex:
            teller, told = self._told.get(source, (source, payload))
            answer = told.message
            if isinstance(answer, messages.ReadIndexOk) and answer.boot < message.boot:
                self._cluster.network.repeat(teller, source, told)

    def _when(self, is_so: Callable[[], bool], act: Callable[..., None], *arguments: object) -> None:
        """Act as soon as something is so, unless that takes too long."""

        def look(left: int) -> None:
            if self._is_over() or left == 0:
                return
            if is_so():
                act(*arguments)
            else:
                self._cluster.scheduler.idle += 1
                self._cluster.scheduler.after(1 * MS, look, left - 1)

        look(LOOKS)
