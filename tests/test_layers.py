"""The house has floors and imports point down only: this reads every import and fails on a breach."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Rooms of the two packages by floor. Rooms on one floor are siblings and do not import each other.
FLOORS: dict[str, int] = {
    "trio_pb.errors": 1,
    "trio_pb.canonical": 1,
    "trio_pb.core": 2,
    "trio_pb.app": 2,
    "trio_pb.codec": 3,
    "trio_pb.storage": 4,
    "trio_pb.driver": 5,
    "sim": 5,
    "trio_pb": 6,  # Its __init__: the public face.
    "trio_pb.testbed": 6,
    "trio_pb.testing": 6,
    "trio_pb.cli": 7,
    "trio_pb.__main__": 8,
}

# What the protocol and the state machines may import besides the floor below: nothing that knows the
# time, the machine or other processes. A list of what is allowed fails closed.
PURE_MODULES = frozenset(
    {
        "__future__",
        "abc",
        "array",
        "attrs",
        "bisect",
        "collections",
        "copy",
        "dataclasses",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "itertools",
        "math",
        "operator",
        "random",
        "re",
        "struct",
        "sys",
        "types",
        "typing",
    }
)
PURE_ROOMS = ("trio_pb.core", "trio_pb.app")

# Formats over the Disk interface and over bytes: no event loop, no clock, no files.
FORMAT_ROOMS = ("trio_pb.codec", "trio_pb.storage")
IMPURE_MODULES = frozenset(
    {
        "asyncio",
        "io",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "secrets",
        "select",
        "shutil",
        "socket",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "trio",
    }
)


def room_of(module: str) -> str | None:
    """The room that a module of ours belongs to, None for modules of others."""
    if module == "trio_pb":
        return "trio_pb"
    parts = module.split(".")
    if parts[0] == "sim":
        return "sim"
    return ".".join(parts[:2]) if parts[0] == "trio_pb" else None


def module_name(path: Path, root: Path) -> str:
    """The dotted name under which `path` is imported."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.AST, module: str, is_module: set[str]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each module that `module` imports, wherever in the file it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")[: -node.level]
                base = ".".join([*package, base] if base else package)
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield node.lineno, name if name in is_module else base


def breaches(root: Path) -> list[str]:
    """Every import under `root` that the floors forbid, as a readable line."""
    paths = sorted(path for package in ("trio_pb", "sim") for path in (root / package).rglob("*.py"))
    names = {module_name(path, root) for path in paths}
    # Folders count too, so that a room without an __init__ is no way around.
    names |= {".".join(path.relative_to(root).parent.parts) for path in paths}
    found: list[str] = []
    for path in paths:
        module = module_name(path, root)
        room = room_of(module)
        assert room is not None
        where = path.relative_to(root)
        if room not in FLOORS:
            found.append(f"{where}: room {room} has no floor; give it one in tests/test_layers.py")
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for line, name in imports_of(tree, module, names):
            target = room_of(name)
            if target is None:
                found += [f"{where}:{line}: {reason}" for reason in foreign_breaches(room, name)]
            elif target != room and FLOORS.get(target, 99) >= FLOORS[room]:
                found.append(f"{where}:{line}: {room} imports {name}, which is not below it")
        if room in PURE_ROOMS:
            found += [f"{where}:{line}: random.{name} has a hidden state" for line, name in hidden_random(tree)]
    return found


def foreign_breaches(room: str, name: str) -> Iterator[str]:
    """Why `room` must not import the module `name`, which is not ours."""
    top = name.split(".")[0]
    if room in PURE_ROOMS and top not in PURE_MODULES:
        yield f"{room} imports {name}; it may import {', '.join(sorted(PURE_MODULES))}"
    if room in FORMAT_ROOMS and top in IMPURE_MODULES:
        yield f"{room} imports {name}, but formats do no input or output"
    if room == "sim" and top == "trio":
        yield f"sim imports {name}, but virtual time has no event loop"


def hidden_random(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Uses of `random` other than a generator made from a seed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
            if node.attr != "Random":
                yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom) and node.module == "random":
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name != "Random")


def test_imports_point_down() -> None:
    """No room imports one above or beside it, and the core imports nothing that knows the world."""
    found = breaches(ROOT)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source", "told"),
    [
        ("trio_pb/core/replica.py", "import trio", "imports trio"),
        ("trio_pb/core/replica.py", "def f():\n    import time", "imports time"),
        ("trio_pb/core/replica.py", "import random\nrandom.random()", "random.random"),
        ("trio_pb/core/replica.py", "from random import choice", "random.choice"),
        ("trio_pb/core/replica.py", "from trio_pb.app import orders", "not below"),
        ("trio_pb/core/replica.py", "from ..codec import wire", "not below"),
        ("trio_pb/app/orders.py", "from os import urandom", "imports os"),
        ("trio_pb/codec/wire.py", "from trio_pb import storage", "not below"),
        ("trio_pb/storage/store.py", "import threading", "formats do no"),
        ("trio_pb/driver/host.py", "import sim.run", "not below"),
        ("sim/run.py", "from trio_pb.driver.host import Host", "not below"),
        ("sim/run.py", "import trio", "no event loop"),
        ("trio_pb/testbed/cluster.py", "from trio_pb.cli import main", "not below"),
        ("trio_pb/attic/old.py", "", "has no floor"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, path: str, source: str, told: str) -> None:
    """The reader of imports finds each kind of breach: it is not green because it is blind."""
    for room in ("trio_pb/app/orders", "trio_pb/codec/wire", "trio_pb/storage/store", "trio_pb/cli/main", path[:-3]):
        (tmp_path / room).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{room}.py").touch()
    (tmp_path / path).write_text(source, encoding="utf-8")
    assert any(told in line for line in breaches(tmp_path)), breaches(tmp_path)


def test_pure_modules_are_in_the_standard_library() -> None:
    """Besides attrs, the pure rooms use nothing that must be installed."""
    assert sys.stdlib_module_names >= PURE_MODULES - {"attrs"}
