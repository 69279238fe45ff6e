"""The lock of a data directory, tried or held from outside."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from trio_pb.driver.file_disk import LOCK_FILE
from trio_pb.errors import DataDirectoryError

__all__ = ["Directory", "holding_lock", "is_in_use"]

Directory: TypeAlias = Annotated[Path, Parameter(name="DIR")]


def is_in_use(directory: Path) -> bool:
    """Whether a replica holds the directory at this moment; it is held against nobody for longer than this call."""
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def holding_lock(directory: Path, *, force: bool) -> Generator[None, None, None]:
    """Keep replicas away from the directory for the length of the block.

    With `force` the block runs whether or not somebody else holds the lock.

    Raises:
        DataDirectoryError: a replica uses the directory.
    """
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not force:
                raise DataDirectoryError(
                    f"{directory}: in use: another process holds {LOCK_FILE}; stop that replica first, or damage it "
                    "while it runs with --force"
                ) from error
        yield
    finally:
        os.close(descriptor)
