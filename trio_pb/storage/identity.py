"""The file `identity`: whose data directory this is, in text, written once by format.

It is read before anything else, so that a directory of somebody else, or of a newer program, is
refused untouched. Two copies, each in a sector of its own, survive one bad sector.
"""

from __future__ import annotations

import re

import attrs

from trio_pb.core.prepare import checksum_of
from trio_pb.errors import DataDirectoryError
from trio_pb.storage.disk import Flush, Job, Read, Rename, Write
from trio_pb.storage.fields import REPLICAS_MAX
from trio_pb.storage.page import DATA_FORMAT

__all__ = ["IDENTITY_FILE", "Identity", "read_identity", "write_identity"]

IDENTITY_FILE = "identity"

COPY_SIZE = 512
COPY_OFFSETS = (0, 4096)

_FIRST_LINE = re.compile(rb"trio_pb data directory, format (\d{1,9})\n")
_TEXT = re.compile(
    rb"trio_pb data directory, format \d{1,9}\n"
    rb"cluster ([0-9a-f]{32})\nreplica (\d{1,4})\nincarnation ([0-9a-f]{32})\nchecksum ([0-9a-f]{32})\n+"
)


@attrs.frozen(kw_only=True)
class Identity:
    """Whose directory this is."""

    cluster: bytes  # 16 bytes.
    replica: int
    incarnation: bytes  # 16 bytes, made at format; owner of every page in the directory.


def encode(identity: Identity) -> bytes:
    """Return one copy: lines of text, the last of them a checksum, padded with line ends to 512 bytes."""
    text = (
        f"trio_pb data directory, format {DATA_FORMAT}\ncluster {identity.cluster.hex()}\n"
        f"replica {identity.replica}\nincarnation {identity.incarnation.hex()}\n"
    ).encode()
    return (text + b"checksum " + checksum_of(text).hex().encode()).ljust(COPY_SIZE, b"\n")


def decode(data: bytes) -> Identity | None:
    """Return what one copy says, or None when it is damaged or not ours. Takes any bytes whatever.

    Raises:
        DataDirectoryError: a newer program wrote it.
    """
    first_line = _FIRST_LINE.match(data)
    if first_line and int(first_line[1]) > DATA_FORMAT:
        raise DataDirectoryError(
            f"{IDENTITY_FILE}: data format {int(first_line[1])} is newer than {DATA_FORMAT}, the newest that this "
            "program knows; start the version of trio-pb that wrote this directory"
        )
    match = _TEXT.fullmatch(data)
    if match is None:
        return None
    cluster, replica, incarnation = bytes.fromhex(match[1].decode()), int(match[2]), bytes.fromhex(match[3].decode())
    identity = Identity(cluster=cluster, replica=replica, incarnation=incarnation)
    # Encoding again compares the checksum and refuses a second spelling of the same numbers.
    return identity if replica < REPLICAS_MAX and encode(identity) == data else None


def write_identity(identity: Identity) -> Job[None]:
    """Make the file: the last step of a format, and atomic."""
    copy = encode(identity)
    fresh = f"{IDENTITY_FILE}.new"
    for offset in COPY_OFFSETS:
        yield Write(fresh, offset, copy.ljust(4096, b"\n"))
    yield Flush(fresh)
    yield Rename(fresh, IDENTITY_FILE)


def read_identity() -> Job[Identity]:
    """Read whichever copy is intact.

    Raises:
        DataDirectoryError: not formatted, foreign, newer, or both copies are damaged.
    """
    copies: list[bytes] = []
    for offset in COPY_OFFSETS:
        copy: bytes = yield Read(IDENTITY_FILE, offset, COPY_SIZE)
        copies.append(copy)
    if not any(copies):
        raise DataDirectoryError(f"{IDENTITY_FILE}: no such file; run `trio-pb format` on a new directory first")
    for copy in copies:
        identity = decode(copy)
        if identity is not None:
            return identity
    raise DataDirectoryError(
        f"{IDENTITY_FILE}: not the identity of a trio_pb data directory, or both copies of it (offsets "
        f"{COPY_OFFSETS[0]} and {COPY_OFFSETS[1]}) are damaged; check the path, restore the file, or "
        "replace this replica"
    )
