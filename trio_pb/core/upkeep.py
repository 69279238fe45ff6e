"""Upkeep of the disk: look for rot before it is needed, and for space when there was none (PROTOCOL 7.5)."""

from __future__ import annotations

from trio_pb.core.persistence import Persistence
from trio_pb.core.ports import Scrub, Scrubbed, Space, SpaceCheck
from trio_pb.core.repair import Repair
from trio_pb.core.state import State
from trio_pb.core.timeout import Timeout

__all__ = ["Upkeep"]


class Upkeep:
    """Two slow timers, and what follows from what they find."""

    def __init__(self, state: State, persistence: Persistence, repair: Repair) -> None:
        self.state = state
        self._persistence = persistence
        self._repair = repair
        self.scrub_timeout = Timeout("scrub")
        self.space_timeout = Timeout("space")
        self._is_scrubbing = False  # A slice is being read.

    def start(self) -> None:
        """Begin a boot."""
        self.scrub_timeout.start(self.state.now_tick, self.state.timeouts.scrub_ticks)

    def on_scrub_timeout(self) -> None:
        """Read the next slice, unless the disk is still busy with the last one."""
        self.scrub_timeout.start(self.state.now_tick, self.state.timeouts.scrub_ticks)
        if not self._is_scrubbing:
            self._is_scrubbing = True
            self.state.outputs.append(Scrub())

    def on_scrubbed(self, found: Scrubbed) -> None:
        """Heal what was found: records and chunks from peers, the rest by writing it again."""
        self._is_scrubbing = False
        for record in found.records:
            self._repair.lose(record)
        if found.proofs:
            self.state.trace("proof_lost")
            self._persistence.renew_proof()
        if found.superblock:
            self.state.trace("superblock_copy_lost")
            self._persistence.change()
        if found.is_round_done:
            self.state.counters["scrub_rounds"] += 1

    def on_space(self, space: Space) -> None:
        """The disk became full, or there is space again."""
        state = self.state
        if space.is_full and not state.is_disk_full:
            state.trace("disk_full")
            state.unfit.add("disk_full")
        elif state.is_disk_full and not space.is_full:
            state.trace("disk_has_space")
            state.unfit.discard("disk_full")
        state.is_disk_full = space.is_full
        if space.is_full and not self.space_timeout.running:
            self.space_timeout.start(state.now_tick, state.timeouts.space_ticks)

    def on_space_timeout(self) -> None:
        """Try again."""
        self.space_timeout.stop()
        self.state.outputs.append(SpaceCheck())
