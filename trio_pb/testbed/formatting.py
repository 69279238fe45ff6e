"""Making data directories: the name of a cluster becomes its id, a member its directory."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from trio_pb.driver.file_disk import FileDisk
from trio_pb.errors import ConfigError, DataDirectoryError
from trio_pb.storage.disk import run
from trio_pb.storage.journal import SEGMENT_SIZE
from trio_pb.storage.store import format_directory

__all__ = ["CONFIG_FILE", "REPLICAS_MAX", "cluster_id", "format_replica"]

REPLICAS_MAX = 7  # Voters of one cluster (PROTOCOL 2.5).
CONFIG_FILE = "trio-pb.toml"  # May lie in a data directory, and may be there first.

_OURS = frozenset({"LOCK", "identity", "identity.new", "superblock", "proofs", "log", "ALLOCATING"})
_HARMLESS = frozenset({CONFIG_FILE, "lost+found"})  # The latter is in the root of many file systems.


def cluster_id(name: str) -> bytes:
    """The 16 bytes that stand for the cluster called `name`: equal names, equal clusters."""
    return blake2b(name.encode(), digest_size=16, person=b"trio-pb cluster").digest()


def format_replica(
    directory: Path, *, cluster: bytes, replica: int, members: Iterable[int], segment_size: int = SEGMENT_SIZE
) -> None:
    """Make `directory` the data directory of member `replica` of a new cluster.

    Raises:
        ConfigError: the members make no sense.
        DataDirectoryError: the directory is in use or not empty; nothing was changed.
        StorageError: it could not be written.
    """
    voters = tuple(sorted(members))
    if len(set(voters)) != len(voters):
        raise ConfigError("members: each id must be given once")
    if not 1 <= len(voters) <= REPLICAS_MAX:
        raise ConfigError(f"members: {len(voters)} replicas; a cluster has 1 to {REPLICAS_MAX}")
    _refuse_foreign(directory)
    if replica not in voters:
        raise ConfigError(f"replica {replica}: not one of the members {', '.join(map(str, voters))}")
    disk = FileDisk(directory, create=True)
    try:
        run(
            disk,
            format_directory(
                cluster=cluster,
                replica=replica,
                incarnation=secrets.token_bytes(16),
                voters=voters,
                segment_size=segment_size,
            ),
        )
    finally:
        disk.close()


def _refuse_foreign(directory: Path) -> None:
    """Our files are not to be strewn among those of others: that is a slip of the path.

    Raises:
        DataDirectoryError: the directory has something that is not ours.
    """
    if not directory.is_dir():
        return
    foreign = sorted(path.name for path in directory.iterdir() if path.name not in _OURS | _HARMLESS)
    if foreign:
        raise DataDirectoryError(
            f"{directory}: not empty, it has {foreign[0]!r}: name a directory that is empty or does not exist yet; "
            "nothing was changed"
        )
