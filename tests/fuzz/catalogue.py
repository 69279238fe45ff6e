"""All harnesses by name, each in its room. One that is missing here is neither fuzzed nor replayed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # It imports our code, which must not be imported before it is instrumented.
    from tests.fuzz.harness import Harness

__all__ = ["ROOMS", "load"]

# A room is imported with the first of its harnesses: to instrument all that they import takes a while.
ROOMS: Mapping[str, str] = MappingProxyType(
    {
        "cbor": "wire",
        "frames": "wire",
        "messages": "wire",
        "requests": "requests",
        "results": "requests",
        "superblock": "copies",
        "proofs": "copies",
        "identity": "copies",
        "journal": "records",
        "packs": "records",
        "directory": "directory",
        "manifest": "checkpoint",
        "sessions": "checkpoint",
        "state": "checkpoint",
        "config": "files",
        "choices": "files",
        "history": "files",
        "world": "files",
        "order-lines": "files",
    }
)


def load(name: str) -> Harness:
    """Import a harness."""
    harnesses: tuple[Harness, ...] = import_module(f"tests.fuzz.{ROOMS[name]}").HARNESSES
    return next(harness for harness in harnesses if harness.name == name)
