"""Changes to a CBOR value that leave it a CBOR value: an item replaced, doubled, dropped or swapped."""

from __future__ import annotations

from random import Random
from typing import Any, TypeAlias, cast

from trio_pb import canonical

__all__ = ["change_tree", "changed_value"]

# What decoders make decisions about: edges of widths, the wrong types, sizes of checksums and digests.
_NUMBERS = (0, 1, 2, 7, 23, 24, 255, 256, 1023, 1024, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -1)
_OTHERS = (True, False, None, b"", bytes(8), bytes(16), bytes(17), bytes(32), "", "text")

_Node: TypeAlias = Any  # A list or a dict: both are indexed, iterated and deleted from alike.


def change_tree(data: bytes, random: Random) -> bytes:
    """Change one place in the value that `data` encodes; `data` itself where it encodes none."""
    try:
        root = canonical.decode_relaxed(data)
        return canonical.encode(changed_value(root, random))
    except (ValueError, TypeError):  # It was no such value, or is none any more: keys that do not compare.
        return data


def changed_value(root: object, random: Random) -> object:
    """Change one place in lists and maps, which are changed where they are; return what stands for `root` then."""
    holder = [root]
    nodes: list[_Node] = [holder]
    _collect(root, nodes)
    _change(random.choice(nodes), random)
    return holder[0] if holder else None


def _collect(value: object, nodes: list[_Node]) -> None:
    if isinstance(value, list | dict):
        nodes.append(value)
        for item in _items(value).values():
            _collect(item, nodes)


def _items(node: _Node) -> dict[object, object]:
    if isinstance(node, dict):
        return dict(cast("dict[object, object]", node))
    return dict(enumerate(cast("list[object]", node)))


def _change(node: _Node, random: Random) -> None:
    items = _items(node)
    if not items:
        _put(node, random.choice(_NUMBERS[:5]), _new(random, None))
        return
    key = random.choice(list(items))
    match random.randrange(6):
        case 0:
            del node[key]
        case 1:
            _put(node, random.choice(_NUMBERS), items[key])
        case 2:
            other = random.choice(list(items))
            node[key], node[other] = items[other], items[key]
        case _:
            node[key] = _new(random, items[key])


def _put(node: _Node, key: int, value: object) -> None:
    if isinstance(node, dict):
        node[key] = value
    else:
        node.insert(key % (len(node) + 1), value)


def _new(random: Random, old: object) -> object:
    """Something near `old`, or anything."""
    near = random.randrange(3)
    if near and type(old) is int:
        return old + random.choice((-1, 1, -old, 2**32))
    if near and isinstance(old, bytes):
        return old[: random.randrange(len(old) + 1)] if near == 1 else old + bytes(random.randrange(1, 18))
    if near and isinstance(old, str):
        return old + "\u00e9" if near == 1 else old[1:]
    if near and isinstance(old, list):
        return cast("list[object]", old) * 2
    return random.choice((*_NUMBERS, *_OTHERS, [], {}))
