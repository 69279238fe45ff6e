"""A planted bug: one small change to the shipped code, made at run time and taken back again.

    @mutant(breaks="R-ACK (5.3)", source="PySyncObj issue 84", expects=("INV-8", "INV-31"))
    def acknowledge_before_durable(patch: Patch) -> None:
        \"\"\"What was handed to the disk counts as written.\"\"\"
        patch.set(Persistence, "ackable", lambda self: self.state.log.appended_prefix)

The function's name is the bug's, with hyphens; its docstring says in a sentence what is done wrong. Nothing is
changed but while it is `planted`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeAlias

import attrs

__all__ = ["Mutant", "Patch", "Planting", "mutant", "planted"]


class Patch:
    """Changes to classes and modules, each of which is undone."""

    def __init__(self) -> None:
        self._undo: list[tuple[object, str, object]] = []

    def set(self, owner: object, name: str, value: object) -> None:
        """Put `value` in the place of a class's or a module's own attribute.

        Raises:
            AttributeError: there is none of that name: the code was changed, and the bug no longer fits.
        """
        own = vars(owner)
        if name not in own:
            where = getattr(owner, "__qualname__", None) or getattr(owner, "__name__", owner)
            raise AttributeError(f"{where} has no {name} of its own any more")
        self._undo.append((owner, name, own[name]))  # As it stands there: a property stays one.
        setattr(owner, name, value)

    def undo(self) -> None:
        """Take every change back, the last one first."""
        while self._undo:
            setattr(*self._undo.pop())


Planting: TypeAlias = Callable[[Patch], None]


@attrs.frozen(kw_only=True)
class Mutant:
    """One bug, and what is known of it."""

    name: str
    area: str  # The room that it stands in.
    what: str  # A sentence: what is done wrong.
    breaks: str  # The rule of docs/protocol.md that excludes it, with its section or trap.
    source: str  # Where it was seen, or who warns of it.
    expects: tuple[str, ...]  # Rules of oracles of which one should fire.
    plant: Planting
    equivalent: str = ""  # Why it cannot be noticed alone, if it cannot;
    pair: str = ""  # then the mutant that takes away what covers for it as well.

    @property
    def traps(self) -> frozenset[int]:
        """The numbers of the traps (PROTOCOL 13) that it walks into."""
        words = self.breaks.replace("(", " ").replace(")", " ").replace(",", " ").split()
        return frozenset(int(word[2:]) for word in words if word.startswith("T-") and word[2:].isdigit())

    def __call__(self, patch: Patch) -> None:
        """Plant it along with others, until `patch` is undone."""
        self.plant(patch)


def mutant(
    *, breaks: str, source: str, expects: tuple[str, ...], equivalent: str = "", pair: str = ""
) -> Callable[[Planting], Mutant]:
    """Make a mutant of the function that plants it."""

    def make(plant: Planting) -> Mutant:
        function: Any = plant  # A callable's type does not say that this one is a function.
        return Mutant(
            name=function.__name__.strip("_").replace("_", "-"),
            area=function.__module__.rpartition(".")[2].replace("_", " "),
            what=(function.__doc__ or "").strip().partition("\n")[0],
            breaks=breaks,
            source=source,
            expects=expects,
            plant=plant,
            equivalent=equivalent,
            pair=pair,
        )

    return make


@contextmanager
def planted(*mutants: Mutant) -> Generator[None, None, None]:
    """Have these bugs in the code meanwhile; they are gone afterwards whatever happens."""
    patch = Patch()
    try:
        for it in mutants:
            it.plant(patch)
        yield
    finally:
        patch.undo()
