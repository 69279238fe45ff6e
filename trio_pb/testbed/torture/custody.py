"""The replica processes in the hands of a nemesis: whose business each is, and what is wrong with its machine."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from trio_pb.testbed.cluster import LocalCluster
from trio_pb.testbed.process import ReplicaProcessError
from trio_pb.testbed.torture.troubles import Troubles

__all__ = ["Custody", "Stopped"]

POLL_SECONDS = 0.05
STOPS_MAX = 5  # Of a replica that ends by itself again and again; then it stays down.
LAST_LINES = 5  # Of what it said.


@attrs.frozen
class Stopped:
    """A replica ended, and nobody made it."""

    replica: int
    at: float  # Seconds since the load began.
    code: int | None  # None: it hangs.
    told: str  # The last that it said.


class Custody:
    """Lets one action at a time end and start a process, and starts those that ended by themselves."""

    def __init__(self, cluster: LocalCluster, now: Callable[[], float], on_trouble: Callable[[str], None]) -> None:
        self.stopped: list[Stopped] = []
        self.cluster = cluster
        self._now = now  # Seconds since the load began.
        self._on_trouble = on_trouble
        self._troubles = [Troubles() for _ in cluster.replicas]
        self._held: set[int] = set()
        self._released = trio.Event()  # Set, and replaced, whenever a process is nobody's business any more.

    # --- Choosing ---------------------------------------------------------------------------------

    async def choose(self, *, at_primary: bool, dice: int) -> int:
        """The primary or a backup, as far as can be told now; of those that run, if any does."""
        return await self._choose(self._free() or list(self.cluster.replicas), at_primary, dice)

    async def choose_running(self, *, at_primary: bool, dice: int) -> int:
        """The same, once one runs."""
        await self._wait_free()
        return await self.choose(at_primary=at_primary, dice=dice)

    async def hold(self, *, at_primary: bool, dice: int) -> int:
        """Choose one whose process is the caller's business until `release`; waits while there is none."""
        while True:
            await self._wait_free()
            chosen = await self._choose(self._free(), at_primary, dice)
            if chosen not in self._held:
                self._held.add(chosen)
                return chosen

    def hold_all(self) -> list[int]:
        """Take all processes that nobody holds; returns which: one that ended by itself too often stays down."""
        free = self._free()
        self._held.update(free)
        return free

    def release(self, *replicas: int) -> None:
        """Their processes run again, and are nobody's business."""
        self._held.difference_update(replicas)
        self._released.set()
        self._released = trio.Event()

    def _free(self) -> list[int]:
        return [replica for replica in self.cluster.replicas if replica not in self._held]

    async def _wait_free(self) -> None:
        while not self._free():
            await self._released.wait()

    async def _choose(self, candidates: list[int], at_primary: bool, dice: int) -> int:
        statuses = await self.cluster.statuses(candidates)
        leading = [status for status in statuses.values() if status.is_primary]
        primary = max(leading, key=lambda status: status.view).replica if leading else None
        if at_primary and primary is not None:
            return primary
        backups = [replica for replica in candidates if replica != primary] or candidates
        return backups[dice % len(backups)]

    # --- Processes and their machines -------------------------------------------------------------

    async def start(self, replica: int) -> None:
        """Start it on a machine with the troubles of the moment, and wait until it answers."""
        process = self.cluster.process(replica)
        await process.start()
        await process.tell(self._troubles[replica].to_line())
        try:
            await self.cluster.wait_answering(replica)
        except ReplicaProcessError as error:
            self.note_stop(replica, None if process.running else await process.wait(), str(error))

    async def tell(self, replica: int, change: Callable[[Troubles], Troubles]) -> None:
        """Change what is wrong with the machine of a replica, now or when it starts next."""
        troubles = self._troubles[replica] = change(self._troubles[replica])
        await self.cluster.process(replica).tell(troubles.to_line())

    def note_stop(self, replica: int, code: int | None, told: str) -> None:
        """Note that it ended or hangs, and should not have."""
        last = "\n".join(told.splitlines()[-LAST_LINES:])
        self.stopped.append(Stopped(replica, self._now(), code, last))
        how = "hangs" if code is None else f"stopped with exit code {code}"
        self._on_trouble(f"replica {replica} {how}, {self._now():.1f} s after the beginning\n{last}")

    async def watch(self) -> None:
        """Note replicas that end without being made to, and start them again, until cancelled."""
        while True:
            for replica in self.cluster.replicas:
                process = self.cluster.process(replica)
                if replica not in self._held and not process.running:
                    self._held.add(replica)
                    self.note_stop(replica, await process.wait(), process.tail())
                    if sum(it.replica == replica for it in self.stopped) < STOPS_MAX:
                        await self.start(replica)
                        self.release(replica)
            await trio.sleep(POLL_SECONDS)
