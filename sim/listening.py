"""A way to hear every event of whatever runs meanwhile; worlds ask for their listener when they are made."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

__all__ = ["Listener", "listen", "listener"]

Listener: TypeAlias = "Callable[[tuple[object, ...]], None]"

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listen(to: Listener) -> Generator[None, None, None]:
    """Let `to` take every event of the worlds that are made meanwhile: (virtual time, what, ...)."""
    token = _listener.set(to)
    try:
        yield
    finally:
        _listener.reset(token)


def listener() -> Listener | None:
    """Who listens now; almost always nobody."""
    return _listener.get()
