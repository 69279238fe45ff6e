"""Changes to a sequence of pieces, whatever they are: lines of a text, pages of a file."""

from __future__ import annotations

from random import Random

__all__ = ["rearrange"]


def rearrange(pieces: list[bytes], random: Random) -> None:
    """Drop, double or move one of at least one piece."""
    at = random.randrange(len(pieces))
    match random.randrange(3):
        case 0:
            del pieces[at]
        case 1:
            pieces.insert(random.randrange(len(pieces) + 1), pieces[at])
        case _:
            pieces.insert(random.randrange(len(pieces)), pieces.pop(at))
