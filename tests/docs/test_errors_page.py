"""docs/errors.md has every exception and every refusal that there is."""

from __future__ import annotations

import re

import trio_pb
import trio_pb.errors
from tests.docs.pages import ROOT
from trio_pb.core.messages import RejectCode
from trio_pb.errors import TrioPbError

PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")


def test_every_exception_is_described_with_its_code() -> None:
    """A new exception needs a line there."""
    for name in (*trio_pb.errors.__all__, "OrderRejectedError"):
        exception: type[TrioPbError] = getattr(trio_pb, name)
        assert f"| `{name}` | `{exception.code}` |" in PAGE


def test_every_reject_is_described_with_its_number() -> None:
    """So does a new reason to refuse a request."""
    for code in RejectCode:
        assert f"| `{code.name.lower()}` | {code.value} |" in PAGE


def test_every_rejection_is_described() -> None:
    """The names that the order service gives are those of its own page."""
    orders = (ROOT / "docs" / "reference" / "orders.md").read_text(encoding="utf-8")
    rejections = re.findall(r"^\| `(\w+)` \| (?:`\w+`|the field) \| ", orders.split("## Results")[1], re.MULTILINE)
    assert len(rejections) == 5
    for name in rejections:
        assert f"| `{name}` | " in PAGE.split("## Why an order is rejected")[1]
