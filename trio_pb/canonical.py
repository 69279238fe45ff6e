"""Canonical CBOR: the one encoding of everything that is hashed, logged or compared.

One value has exactly one encoding, and `decode` accepts exactly the bytes that `encode` makes: no
trailing bytes, tags, duplicate or unsorted keys, indefinite lengths, padded integers or deep nesting.
Only None, booleans, integers of 64 bits, bytes, text, lists and maps travel (RFC 8949, 4.2).

Bytes that name nothing, such as the headers of frames, need not be canonical. For them there is the
faster pair `encode_ordered` and `decode_relaxed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, TypeAlias, cast

import cbor2

__all__ = ["DEPTH_MAX", "CanonicalError", "Value", "array_head", "decode", "decode_relaxed", "encode", "encode_ordered"]

Value: TypeAlias = (
    "bool | int | bytes | str | list[Value] | tuple[Value, ...] | dict[int, Value] | dict[str, Value] | None"
)

DEPTH_MAX = 16  # Containers within containers; our deepest message has 5.


class CanonicalError(ValueError):
    """The bytes are not the canonical encoding of any value that we exchange."""


def encode(value: object) -> bytes:
    """Return the canonical bytes of `value`."""
    return cbor2.dumps(value, canonical=True)


def array_head(count: int) -> bytes:
    """Return the bytes with which an array of `count` items begins; those of its items follow."""
    head = bytearray(encode(count))  # A number, and then a length, differ in three bits only (RFC 8949, 3.1).
    head[0] |= 0x80
    return bytes(head)


def encode_ordered(value: object) -> bytes:
    """Return the bytes of `value` with the keys of each map in the order in which they stand.

    Where they stand sorted, the bytes are those of `encode`, in half the time for a map.
    """
    return cbor2.dumps(value)


def decode(data: bytes) -> Value:
    """Return the value whose canonical encoding is exactly `data`.

    Raises:
        CanonicalError: for any other bytes.
    """
    value = cast(Value, decode_relaxed(data))
    _refuse_foreign(value)
    # Encoding again catches at once what the decoder lets pass: unsorted keys and padded integers
    # come out as other bytes.
    if cbor2.dumps(value, canonical=True) != data:
        raise CanonicalError("not the canonical encoding of its value")
    return value


def decode_relaxed(data: bytes) -> object:
    """Return the value that `data` encodes, for bytes whose identity does not matter.

    As strict as `decode`, except that keys may be unsorted, integers padded, and numbers of other
    types (floats, simple values) come out as such: whoever reads a field checks its type.

    Raises:
        CanonicalError: not CBOR, trailing bytes, a tag, an indefinite length, a duplicate key, or
            more than DEPTH_MAX containers within one another.
    """
    stream = BytesIO(data)
    # Any refusal of the library becomes ours: its exception classes are no part of our interface.
    try:
        value: object = cbor2.load(
            stream,
            max_depth=DEPTH_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            semantic_decoders=_NO_TAGS,
        )
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CanonicalError(f"not CBOR: {error}") from error
    if stream.tell() != len(data):
        raise CanonicalError(f"{len(data) - stream.tell()} bytes after the end of the value")
    return value


class _NoTags(Mapping[int, Any]):  # Any: the library's type for a tag's decoder, of which there is none.
    """Refuses every tag as it is met, before the library acts on it.

    Afterwards would be too late: a bigfloat of ten bytes can ask for gigabytes, and tags 28 and 29
    tie a list into itself.
    """

    def __getitem__(self, tag: int) -> Any:  # Any: never returns.
        raise CanonicalError(f"tag {tag}")

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


_NO_TAGS = _NoTags()
_LEAVES = frozenset({type(None), bool, int, bytes, str})


def _refuse_foreign(value: object) -> None:
    """Refuse floats and other things that encode again to the same bytes and yet are not ours."""
    if type(value) in _LEAVES:
        return
    if isinstance(value, list):
        for item in cast("list[object]", value):
            if type(item) not in _LEAVES:
                _refuse_foreign(item)
    elif isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            if type(key) is not int and type(key) is not str:
                raise CanonicalError(f"a key of type {type(key).__name__}")
            _refuse_foreign(item)
    else:
        raise CanonicalError(f"a value of type {type(value).__name__}")
