"""The page that describes the wire lists the kinds and keys that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.codec import samples
from trio_pb.codec.frames import FrameReader
from trio_pb.codec.kinds import Kind

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "wire-format.md"
ROW = re.compile(r"^\| (\d+) \| ([a-z_]+) \|(.*)\|$", re.MULTILINE)


def documented_kinds() -> dict[int, tuple[str, set[int]]]:
    """Number, name and own keys of every kind in the tables of kinds."""
    text = PAGE.read_text(encoding="utf-8")
    kinds = text[text.index("## Kinds between replicas") :]
    rows: dict[int, tuple[str, set[int]]] = {}
    for number, name, keys in ROW.findall(kinds):
        if name in {kind.name.lower() for kind in Kind}:
            rows[int(number)] = (name, {int(key) for key in re.findall(r"(?:^\W*|, |and |\| )(\d\d) [a-z]", keys)})
    return rows


def test_the_page_lists_every_kind_with_its_number() -> None:
    """In both directions."""
    assert {number: name for number, (name, _) in documented_kinds().items()} == {
        int(kind): kind.name.lower() for kind in Kind
    }


@pytest.mark.parametrize("name", sorted(samples.frames()))
def test_the_page_lists_the_keys_of_every_kind(name: str) -> None:
    """Those beyond the envelope."""
    (frame,) = FrameReader().feed(samples.frames()[name])
    fields = samples.header_fields(frame.header)
    number = fields[1]
    assert isinstance(number, int)
    documented = documented_kinds()
    keys = documented[number][1]
    if Kind(number) is Kind.HELLO_ACK:
        keys = keys | documented[Kind.HELLO][1]
    if Kind(number) is Kind.PONG:
        keys = documented[Kind.PING][1]
    assert keys == {key for key in fields if key >= 16}
