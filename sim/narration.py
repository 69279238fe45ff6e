"""The story of a scenario as people read it: what is done, what is expected, that it came true."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import NamedTuple

__all__ = ["Line", "Narration"]


class Line(NamedTuple):
    """One sentence, and the virtual time at which it was true, in microseconds."""

    time: int
    text: str
    is_check: bool  # An expectation that held, not something that was done.

    def __str__(self) -> str:
        return f"{self.time / 1000:10.1f} ms  {'ok  ' if self.is_check else '    '}{self.text}"


class Narration:
    """Sentences in the order in which they became true."""

    def __init__(self, now: Callable[[], int]) -> None:
        self.lines: list[Line] = []
        self._now = now
        self._is_silent = False

    def tell(self, text: str) -> None:
        """Something is done, or happens."""
        self._add(text, is_check=False)

    def held(self, text: str) -> None:
        """Something was expected, and is so."""
        self._add(text, is_check=True)

    @contextmanager
    def silence(self) -> Generator[None, None, None]:
        """Leave out what would be told meanwhile: it is said in one sentence before or after."""
        before, self._is_silent = self._is_silent, True
        try:
            yield
        finally:
            self._is_silent = before

    def _add(self, text: str, *, is_check: bool) -> None:
        if not self._is_silent:
            self.lines.append(Line(self._now(), text, is_check))
