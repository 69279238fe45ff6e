"""What a replica keeps across a crash, as data: superblock, proof and scan (PROTOCOL 2.3).

The bytes of each are `storage`'s business; the core decides what stands in them.
"""

from __future__ import annotations

import attrs

from trio_pb.core.messages import GENESIS_CHECKPOINT, CheckpointId, Configuration
from trio_pb.core.prepare import PrepareId

__all__ = ["BOOT_SHIFT", "Install", "Proof", "RecordHeader", "Scan", "Superblock"]


@attrs.frozen(kw_only=True)
class Install:
    """How this replica took the log of its log_view: one atomic fact (PROTOCOL 6.5)."""

    base: PrepareId
    checksums: tuple[bytes, ...] = ()  # Of ops base.op + 1 .. the start_view's head.
    ack_floor: int = 0  # Acknowledgements of the lineage before that still bind us.
    proof_base: int = 0  # Proofs with a sequence up to this one are void.

    @property
    def head(self) -> int:
        """The start_view's head."""
        return self.base.op + len(self.checksums)


@attrs.frozen(kw_only=True)
class Superblock:
    """The image that is written atomically; everything else on disk is judged by it."""

    cluster: bytes  # 16 bytes.
    replica: int
    incarnation: bytes  # 16 random bytes made at format.
    boot: int
    born: bool
    view: int
    log_view: int
    install: Install
    commit: PrepareId
    configuration: Configuration
    pinned: tuple[tuple[int, bytes], ...]  # (replica, incarnation) of peers, sorted.
    checkpoint: CheckpointId = GENESIS_CHECKPOINT  # The newest of our own that is durable.
    anchor: PrepareId | None = None  # The prepare at `checkpoint.op`; None: genesis.
    certified: CheckpointId = GENESIS_CHECKPOINT
    pending: Configuration | None = None
    untrusted: bool = False
    retired: bool = False


BOOT_SHIFT = 32  # Bits of a proof's sequence below the boot.


@attrs.frozen
class Proof:
    """Durable promise: all ops up to `acked` were durable when this was written (R-PROOF)."""

    sequence: int  # (boot << BOOT_SHIFT) + counter.
    log_view: int
    acked: int
    checksums: bytes  # Joined, 16 bytes each, of the last ops up to and including `acked`; at most 64.
    commit: PrepareId  # At or below `acked`.


@attrs.frozen
class RecordHeader:
    """One intact record found by the scan; its payload was verified too."""

    op: int
    checksum: bytes
    parent: bytes
    view: int
    commit: int


@attrs.frozen
class Scan:
    """What opening the storage found (R-SCAN 2 and 3)."""

    proof: Proof | None  # The newest valid one.
    has_log: bool  # At least one segment file exists.
    records: tuple[RecordHeader, ...]  # In any order; duplicates allowed.
