"""What a harness is: one decoder of bytes from outside, and what must hold whatever the bytes are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import attrs

from tests.fuzz.tree import change_tree

__all__ = ["Harness", "as_is", "canonical_tree"]

Mutate = Callable[[bytes, Random], bytes]


def as_is(data: bytes) -> bytes:
    """Nothing to be put right: the format has no checksum."""
    return data


def canonical_tree(data: bytes, random: Random) -> bytes:
    """One change to a value within `data`, which is one item of CBOR; the outcome is canonical."""
    return change_tree(data, random)


@attrs.frozen(kw_only=True)
class Harness:
    """One decoder.

    `check` takes any bytes. It returns when they were read or refused as documented, and raises for all else: an
    exception that the decoder does not document, or a property that does not hold.

    Random changes seldom get past a checksum. `repair` makes the checksums in the bytes those of what they protect,
    so the fuzzer reaches what lies beneath; it too takes any bytes.
    """

    name: str
    about: str  # One line for people.
    check: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]  # Real encodings, the same ones every time.
    mutate: Mutate | None = None  # One change that respects the structure; bytes that have none come back as they are.
    repair: Callable[[bytes], bytes] = as_is
    size_max: int = 2048  # Bytes of an input.
