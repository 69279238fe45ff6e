"""Where files are: in memory a flush costs nothing, and a promise that it is durable is measured for nothing."""

from __future__ import annotations

from pathlib import Path

import attrs
import psutil

__all__ = ["Disk"]

IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})


@attrs.frozen
class Disk:
    """What a directory is on."""

    filesystem: str  # Its kind, as the system calls it; "" when it does not say.

    @classmethod
    def of(cls, directory: Path) -> Disk:
        """Look at the file system that is mounted nearest above it."""
        there = directory.resolve()
        nearest, filesystem = -1, ""
        for mount in psutil.disk_partitions(all=True):
            point = Path(mount.mountpoint)
            # The last of those on one point hides the others.
            if there.is_relative_to(point) and len(point.parts) >= nearest:
                nearest, filesystem = len(point.parts), mount.fstype
        return cls(filesystem)

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing there outlives the machine."""
        return self.filesystem in IN_MEMORY
