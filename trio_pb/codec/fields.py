"""Typed readers for the fields of a message, and the shapes that several messages share.

A reader takes what CBOR gave, which may be anything, and returns the value or raises a
`RemoteProtocolError` that names the field. Every list has a bound, so no message costs more memory
than its frame did.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import pairwise
from typing import TypeAlias, TypeVar, cast

from trio_pb.core.messages import CheckpointId, Configuration, Probe
from trio_pb.core.prepare import CHECKSUM_SIZE, PrepareId
from trio_pb.core.quorum import REPLICA_MAX, VOTERS_MAX
from trio_pb.errors import RemoteProtocolError

__all__ = [
    "CHECKSUMS_MAX",
    "MEMBERS_MAX",
    "Fields",
    "as_bool",
    "as_bytes",
    "as_checkpoint",
    "as_checksum",
    "as_checksums",
    "as_configuration",
    "as_digest",
    "as_enum",
    "as_list",
    "as_optional_checksum",
    "as_optional_configuration",
    "as_optional_prepare_id",
    "as_optional_replica",
    "as_prepare_id",
    "as_probe",
    "as_replica",
    "as_row",
    "as_text",
    "as_u16",
    "as_u32",
    "as_u64",
    "bad",
    "configuration_row",
]

Fields: TypeAlias = dict[int, object]  # Keys may be anything that CBOR allows; only integers are ever asked for.
E_ = TypeVar("E_", bound=IntEnum)

MEMBERS_MAX = 64  # Replicas in any list of them.
CHECKSUMS_MAX = 4096  # In a start_view or an answer to get_ids.
DIGEST_SIZE = 32  # blake2b-256: checkpoints and application states.

_U16_END = 1 << 16
_U32_END = 1 << 32
_U64_END = 1 << 64


def bad(name: str, expected: str, value: object) -> RemoteProtocolError:
    """Return the error for field `name`; of what came instead only type and size are told."""
    if type(value) in (bytes, str, list, dict):
        came = f"{type(value).__name__} of {len(cast('str', value))}"
    else:
        came = repr(value) if type(value) in (int, bool) else type(value).__name__
    return RemoteProtocolError(f"{name}: expected {expected}, not {came}")


# --- Single values ------------------------------------------------------------------------------


def as_bool(value: object, name: str) -> bool:
    """Return a boolean."""
    if value is True or value is False:
        return value
    raise bad(name, "a boolean", value)


def as_u16(value: object, name: str) -> int:
    """Return an unsigned integer of 16 bits."""
    if type(value) is int and 0 <= value < _U16_END:
        return value
    raise bad(name, "an unsigned integer of 16 bits", value)


def as_u32(value: object, name: str) -> int:
    """Return an unsigned integer of 32 bits."""
    if type(value) is int and 0 <= value < _U32_END:
        return value
    raise bad(name, "an unsigned integer of 32 bits", value)


def as_u64(value: object, name: str) -> int:
    """Return an unsigned integer of 64 bits."""
    if type(value) is int and 0 <= value < _U64_END:
        return value
    raise bad(name, "an unsigned integer of 64 bits", value)


def as_replica(value: object, name: str) -> int:
    """Return a replica id."""
    if type(value) is int and 0 <= value <= REPLICA_MAX:
        return value
    raise bad(name, f"a replica id, 0 to {REPLICA_MAX}", value)


def as_optional_replica(value: object, name: str) -> int | None:
    """Return a replica id or None."""
    return None if value is None else as_replica(value, name)


def as_enum(value: object, name: str, members: type[E_]) -> E_:
    """Return a member of an enumeration by its number."""
    if type(value) is int:
        try:
            return members(value)
        except ValueError:
            pass  # Told below, with the name of the field.
    raise bad(name, f"a {members.__name__}", value)


def as_bytes(value: object, name: str, size_max: int, size_min: int = 0) -> bytes:
    """Return a byte string of `size_min` to `size_max` bytes."""
    if type(value) is bytes and size_min <= len(value) <= size_max:
        return value
    raise bad(name, f"{size_min} to {size_max} bytes", value)


def as_text(value: object, name: str, size_max: int) -> str:
    """Return a text of at most `size_max` characters."""
    if type(value) is str and len(value) <= size_max:
        return value
    raise bad(name, f"a text of at most {size_max} characters", value)


def as_checksum(value: object, name: str) -> bytes:
    """Return 16 bytes: a checksum, an incarnation, or the id of a cluster or client."""
    if type(value) is bytes and len(value) == CHECKSUM_SIZE:
        return value
    raise bad(name, f"{CHECKSUM_SIZE} bytes", value)


def as_optional_checksum(value: object, name: str) -> bytes | None:
    """Return 16 bytes or None."""
    return None if value is None else as_checksum(value, name)


def as_digest(value: object, name: str) -> bytes:
    """Return a digest of 32 bytes, or the empty one that stands for "nothing yet"."""
    if type(value) is bytes and len(value) in (0, DIGEST_SIZE):
        return value
    raise bad(name, f"0 or {DIGEST_SIZE} bytes", value)


# --- Lists --------------------------------------------------------------------------------------


def as_list(value: object, name: str, count_max: int) -> list[object]:
    """Return a list of at most `count_max` items, whatever they are."""
    items = _items(value)
    if items is not None and len(items) <= count_max:
        return items
    raise bad(name, f"a list of at most {count_max}", value)


def as_row(value: object, name: str, count: int) -> list[object]:
    """Return a list of exactly `count` items, whatever they are."""
    items = _items(value)
    if items is not None and len(items) == count:
        return items
    raise bad(name, f"a list of {count}", value)


def _items(value: object) -> list[object] | None:
    return cast("list[object]", value) if type(value) is list else None


def as_checksums(value: object, name: str) -> tuple[bytes, ...]:
    """Split a byte string into its checksums of 16 bytes each."""
    joined = as_bytes(value, name, CHECKSUMS_MAX * CHECKSUM_SIZE)
    if len(joined) % CHECKSUM_SIZE:
        raise bad(name, f"a multiple of {CHECKSUM_SIZE} bytes", value)
    return tuple([joined[at : at + CHECKSUM_SIZE] for at in range(0, len(joined), CHECKSUM_SIZE)])


# --- Shapes that several messages share -----------------------------------------------------------


def as_prepare_id(value: object, name: str) -> PrepareId:
    """Return an op and its checksum."""
    op, checksum = as_row(value, name, 2)
    return PrepareId(as_u64(op, name), as_checksum(checksum, name))


def as_optional_prepare_id(value: object, name: str) -> PrepareId | None:
    """Return an op and its checksum, or None."""
    return None if value is None else as_prepare_id(value, name)


def as_checkpoint(value: object, name: str) -> CheckpointId:
    """Return an op and the digest of a manifest."""
    op, digest = as_row(value, name, 2)
    return CheckpointId(as_u64(op, name), as_digest(digest, name))


def as_probe(value: object, name: str) -> Probe:
    """Return an op and the rolling digest at it."""
    op, digest = as_row(value, name, 2)
    return Probe(as_u64(op, name), as_checksum(digest, name))


def as_configuration(value: object, name: str) -> Configuration:
    """Return who replicates: 1 to 7 voters, at most 64 standbys, each sorted and without repeats."""
    epoch, voters, standbys = as_row(value, name, 3)
    voting = _replicas(voters, name, VOTERS_MAX)
    if not voting:
        raise bad(name, "at least one voter", voters)
    return Configuration(as_u32(epoch, name), voting, _replicas(standbys, name, MEMBERS_MAX))


def as_optional_configuration(value: object, name: str) -> Configuration | None:
    """Return who replicates, or None."""
    return None if value is None else as_configuration(value, name)


def configuration_row(configuration: Configuration | None) -> list[object] | None:
    """Return what `as_optional_configuration` reads."""
    if configuration is None:
        return None
    return [configuration.epoch, configuration.voters, configuration.standbys]


def _replicas(value: object, name: str, count_max: int) -> tuple[int, ...]:
    replicas = [as_replica(item, name) for item in as_list(value, name, count_max)]
    if any(low >= high for low, high in pairwise(replicas)):
        raise bad(name, "replica ids in ascending order", value)
    return tuple(replicas)
