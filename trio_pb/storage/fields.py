"""Strict readers of decoded values: each returns what it names or raises `MalformedError`."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

from trio_pb.core.messages import Configuration
from trio_pb.core.prepare import CHECKSUM_SIZE, PrepareId
from trio_pb.core.quorum import REPLICA_MAX, VOTERS_MAX

__all__ = [
    "REPLICAS_MAX",
    "MalformedError",
    "read_bytes16",
    "read_configuration",
    "read_flag",
    "read_list",
    "read_map",
    "read_prepare_id",
    "read_replicas",
    "read_unsigned",
]

REPLICAS_MAX = REPLICA_MAX + 1


class MalformedError(ValueError):
    """A decoded value has another shape than the format demands."""


def read_map(value: object, size: int) -> list[object]:
    """Return the values of a map whose keys are exactly 0 .. size - 1, in the order of the keys."""
    if isinstance(value, dict):
        fields = cast("dict[object, object]", value)
        if list(fields) == list(range(size)):
            return list(fields.values())
    raise MalformedError(f"not a map of the keys 0 to {size - 1}")


def read_list(value: object, size: int | None = None) -> list[object]:
    """Return a list, of exactly `size` items unless None."""
    if isinstance(value, list):
        items = cast("list[object]", value)
        if size is None or len(items) == size:
            return items
    raise MalformedError("not a list" if size is None else f"not a list of {size}")


def read_unsigned(value: object, below: int = 1 << 64) -> int:
    """Return a whole number from 0 to below `below`."""
    if type(value) is not int or not 0 <= value < below:
        raise MalformedError(f"not a whole number from 0 to below {below}")
    return value


def read_flag(value: object) -> bool:
    """Return a boolean."""
    if type(value) is not bool:
        raise MalformedError("not a boolean")
    return value


def read_bytes16(value: object) -> bytes:
    """Return 16 bytes: a checksum, a cluster or an incarnation."""
    if type(value) is not bytes or len(value) != CHECKSUM_SIZE:
        raise MalformedError(f"not {CHECKSUM_SIZE} bytes")
    return value


def read_prepare_id(value: object) -> PrepareId:
    """Return a [op, checksum] pair."""
    op, checksum = read_list(value, 2)
    return PrepareId(read_unsigned(op), read_bytes16(checksum))


def read_replicas(value: object) -> tuple[int, ...]:
    """Return replica ids that strictly ascend."""
    replicas = tuple(read_unsigned(replica, REPLICAS_MAX) for replica in read_list(value))
    if any(left >= right for left, right in pairwise(replicas)):
        raise MalformedError("replica ids do not ascend")
    return replicas


def read_configuration(value: object) -> Configuration:
    """Return an [epoch, voters, standbys] triple, with as many voters as there are quorums for."""
    epoch, voters, standbys = read_list(value, 3)
    voting = read_replicas(voters)
    if not 1 <= len(voting) <= VOTERS_MAX:
        raise MalformedError(f"not 1 to {VOTERS_MAX} voters")
    return Configuration(read_unsigned(epoch, 1 << 32), voting, read_replicas(standbys))
