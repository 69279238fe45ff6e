"""What is durable, as far as completions told: the check behind every Send (R-OUT2).

The core never emits a Send whose safety needs something that is not yet durable. This keeps its own
books from the writes that passed by and asserts it; it decides nothing and nothing waits for it.
"""

from __future__ import annotations

from collections import deque

from trio_pb.core.durable import Proof, Superblock
from trio_pb.core.ports import Input, Requires, Start, SuperblockDone, SuperblockWrite, WalAppend, WalDone

__all__ = ["Durability"]


class Durability:
    """The durable view, log_view and acknowledgement watermark of this boot."""

    def __init__(self, start: Start) -> None:
        self._superblock = start.superblock
        self._proof = start.scan.proof
        self._images: deque[SuperblockWrite] = deque()  # Not yet done, by rising sequence.
        self._appends: deque[tuple[int, Proof | None]] = deque()  # Not yet done, by rising sequence.

    @property
    def superblock(self) -> Superblock:
        """The newest image known to be durable."""
        return self._superblock

    @property
    def acked(self) -> int:
        """Highest op that may be acknowledged (R-ACK): of the install, the checkpoint, or a proof after them."""
        superblock, proof = self._superblock, self._proof
        install = superblock.install
        floor = max(install.ack_floor, superblock.checkpoint.op)
        if proof is None or proof.log_view != superblock.log_view or proof.sequence <= install.proof_base:
            return floor
        return max(floor, proof.acked)

    def note_write(self, output: WalAppend | SuperblockWrite) -> None:
        """Remember a write on its way to the disk."""
        if isinstance(output, SuperblockWrite):
            self._images.append(output)
        else:
            self._appends.append((output.sequence, output.proof))

    def note_completions(self, inputs: list[Input]) -> None:
        """Take into account what was completed, before the core hears of it."""
        for completion in inputs:
            if type(completion) is WalDone:
                while self._appends and self._appends[0][0] <= completion.sequence:
                    proof = self._appends.popleft()[1]
                    self._proof = proof or self._proof
            elif type(completion) is SuperblockDone:
                while self._images and self._images[0].sequence <= completion.sequence:
                    self._superblock = self._images.popleft().image

    def check(self, requires: Requires) -> None:
        """Assert that a Send may leave now."""
        superblock = self._superblock
        assert requires.view <= superblock.view, f"R-OUT2: {requires} before view {superblock.view} was durable"
        assert requires.log_view <= superblock.log_view, f"R-OUT2: {requires}, durable log_view {superblock.log_view}"
        assert requires.acked <= self.acked, f"R-OUT2: {requires}, durable watermark {self.acked}"
