"""A directory that a newer program wrote to is refused by name, and nothing in it changes."""

from __future__ import annotations

from struct import pack_into

import pytest

from tests.storage.application import Host
from tests.storage.fixtures import append, chain, formatted
from trio_pb.core.prepare import CHECKSUM_SIZE, checksum_of
from trio_pb.errors import DataDirectoryError
from trio_pb.storage.page import DATA_FORMAT
from trio_pb.storage.proofs import COPY_DISTANCE

FORMAT_AT = CHECKSUM_SIZE + 8
SIZE_AT = FORMAT_AT + 4


def rewrite_as(data: bytearray, start: int, data_format: int, *, is_sealed: bool = True) -> None:
    """Make the page at `start` one of another format."""
    pack_into("<I", data, start + FORMAT_AT, data_format)
    if is_sealed:
        size = int.from_bytes(data[start + SIZE_AT : start + SIZE_AT + 4], "little")
        data[start : start + CHECKSUM_SIZE] = checksum_of(bytes(data[start + CHECKSUM_SIZE : start + 64 + size]))


PAGES = [
    ("superblock", 3 * 16384, "TPBSUPER"),
    ("proofs", COPY_DISTANCE, "TPBPROOF"),
    ("log/00000001-00000001", 4096, "TPBRECRD"),
    ("checkpoints/00000001", 0, "TPBCHUNK"),
]


def used_host() -> Host:
    """Return a host that wrote at least one page of each kind."""
    host = Host(formatted())
    for prepare in chain(3):
        host.put(append(prepare))
    host.shelf.put(1, b"state")
    host.checkpoint(1)
    return host


@pytest.mark.parametrize(("file", "start", "kind"), PAGES)
def test_page_of_a_newer_format_is_refused_untouched(file: str, start: int, kind: str) -> None:
    """One page of a newer program in any file: opening says so, and not one byte of any file changes."""
    host = used_host()
    rewrite_as(host.disk.cache[file], start, DATA_FORMAT + 1)
    host.disk.cache["superblock"][200] ^= 1  # Which opening would heal.
    before = {name: bytes(data) for name, data in host.disk.cache.items()}
    with pytest.raises(DataDirectoryError, match=rf"{kind}.*format 2, newer than 1.*start the version"):
        Host(host.disk)
    assert {name: bytes(data) for name, data in host.disk.cache.items()} == before


@pytest.mark.parametrize(("file", "start", "kind"), PAGES)
def test_flipped_bits_are_no_newer_format(file: str, start: int, kind: str) -> None:
    """Damage in the field of the version is damage: the seal tells them apart."""
    host = used_host()
    assert kind.encode() in host.disk.cache[file][start : start + 64]
    rewrite_as(host.disk.cache[file], start, DATA_FORMAT + 1, is_sealed=False)
    Host(host.disk)


@pytest.mark.parametrize(("file", "start", "kind"), PAGES)
def test_page_of_no_format_is_damage(file: str, start: int, kind: str) -> None:
    """There is no format 0."""
    host = used_host()
    assert kind.encode() in host.disk.cache[file][start : start + 64]
    rewrite_as(host.disk.cache[file], start, 0)
    Host(host.disk)
