"""Whether what a driver reports durable would survive a power cut in this moment: told from the disk itself.

The simulator's oracles take completions at their word, since there the simulator makes them. Here they
are the driver's to make, in a thread or in the loop, and so they are judged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sim.disk import FakeDisk
from sim.oracles.facts import violate
from trio_pb.core.durable import Scan, Superblock
from trio_pb.core.ports import SuperblockWrite, WalAppend

__all__ = ["DiskTruth"]

APPENDS_PER_LOOK = 4  # Opening a copy of the disk costs milliseconds.


class DiskTruth:
    """What one boot of a replica handed to storage, against what the medium holds."""

    def __init__(self, number: int, medium: FakeDisk, examine: Callable[[], tuple[Superblock, Scan] | None]) -> None:
        self._number = number
        self._medium = medium
        self._examine = examine
        self._appends_done = 0
        self.appends: deque[WalAppend] = deque()  # Not yet reported, by rising sequence.
        self.images: deque[SuperblockWrite] = deque()  # Likewise.

    def appended(self, sequence: int) -> None:
        """Appends up to `sequence` are reported durable.

        Raises:
            Violation: INV-8; records or proof are not.
        """
        at_stake = list(self._medium.writes_at_stake())
        proof = None
        while self.appends and self.appends[0].sequence <= sequence:
            append = self.appends.popleft()
            proof = append.proof or proof
            for prepare in append.prepares:
                # What is written once more, or was found lost and fetched, stands elsewhere as well.
                is_at_stake = any(prepare.header in data for data in at_stake)
                if is_at_stake and not self._medium.after_power_cut().has(prepare.header):
                    self._violate(f"op {prepare.op}")
        self._appends_done += 1
        if proof is None or self._appends_done % APPENDS_PER_LOOK:
            return
        found = self._examine()
        if found is None or found[1].proof is None or found[1].proof.sequence < proof.sequence:
            self._violate(f"proof {proof.sequence}")

    def image_written(self, sequence: int) -> None:
        """Images up to `sequence` are reported durable.

        Raises:
            Violation: INV-8; an older one would be found.
        """
        newest = None
        while self.images and self.images[0].sequence <= sequence:
            newest = self.images.popleft().image
        found = self._examine()
        if newest is not None and (found is None or found[0] not in (newest, *(write.image for write in self.images))):
            self._violate(f"superblock image {sequence}")

    def _violate(self, what: str) -> None:
        violate("INV-8", f"R{self._number}: {what} is reported durable, and a power cut would take it")
