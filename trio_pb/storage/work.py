"""What passes between the loop, where the application is, and the disk, to write and to load checkpoints.

The core knows nothing of these: its CheckpointBegin and Install become several of them, a slice each, and
their completions come back as one CheckpointDone or Installed.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs

from trio_pb.core.manifest import Manifest
from trio_pb.core.messages import CheckpointId
from trio_pb.core.ports import (
    ChunkPut,
    ChunkRead,
    Collect,
    Input,
    Scrub,
    SpaceCheck,
    SuperblockWrite,
    SyncBegin,
    WalAppend,
    WalRead,
)

__all__ = [
    "CheckpointClaim",
    "CheckpointClaimed",
    "CheckpointFinish",
    "CheckpointWrite",
    "CheckpointWritten",
    "Completion",
    "InstallRead",
    "InstallReadDone",
    "Work",
]


@attrs.frozen
class CheckpointClaim:
    """Begin to write the checkpoint of `op`; keep those of these chunks that are there. Replaces any before."""

    serial: int  # Names this attempt.
    op: int
    digests: frozenset[bytes]


@attrs.frozen
class CheckpointClaimed:
    """Completion: the chunks claimed, except `lacking`, stay for as long as the attempt."""

    serial: int
    lacking: frozenset[bytes]


@attrs.frozen
class CheckpointWrite:
    """Make chunks durable, (digest, chunk) each. What is there already is not written again."""

    serial: int
    chunks: tuple[tuple[bytes, bytes], ...]


@attrs.frozen
class CheckpointWritten:
    """Completion, when there was room; else CheckpointFailed ends the attempt."""

    serial: int
    size: int  # Bytes of those chunks.


@attrs.frozen
class CheckpointFinish:
    """Write the manifest, after all chunks; completion is CheckpointDone or CheckpointFailed."""

    serial: int
    id: CheckpointId
    manifest: bytes
    contents: Manifest  # The same, decoded.


@attrs.frozen
class InstallRead:
    """Read a slice of the chunks of a checkpoint; completion is InstallReadDone or InstallFailed."""

    target: CheckpointId
    start: int  # Index in `Manifest.chunks`.
    serial: int = 0  # Of the Install that it is for.


@attrs.frozen
class InstallReadDone:
    """Verified chunks from `start` on, at least one unless there are no more."""

    target: CheckpointId
    manifest: Manifest
    start: int
    chunks: tuple[bytes, ...]
    serial: int = 0  # Of the Install that it is for.


# What a Store takes, and what it answers with.
Work: TypeAlias = (
    WalAppend
    | SuperblockWrite
    | WalRead
    | SyncBegin
    | ChunkPut
    | ChunkRead
    | Collect
    | Scrub
    | SpaceCheck
    | CheckpointClaim
    | CheckpointWrite
    | CheckpointFinish
    | InstallRead
)
Completion: TypeAlias = Input | CheckpointClaimed | CheckpointWritten | InstallReadDone
