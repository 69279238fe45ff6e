"""A way to have the next run taken down as a story, whatever kind of world it is run in.

    with telling(recorder):
        report = experiment.run(choices)

A world asks for its teller when it is made; the first one made meanwhile is the one that is told of. Our own
cluster is then made of parts that listen. A world of another kind adds its lanes and events to
`teller.builder` by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TypeAlias

import attrs

from sim.disk import FakeDisk
from sim.explain.builder import StoryBuilder
from sim.network import Network, Payload
from sim.oracles.watch import Watch
from sim.workload import History

if TYPE_CHECKING:
    from sim.cluster import SimCluster

__all__ = ["PLAIN", "Parts", "Teller", "take_teller", "telling"]

Traced: TypeAlias = "Callable[[Sequence[object]], None]"
Arrived: TypeAlias = "Callable[[int, int, Payload], None]"  # (source, destination, what is at its door)


@attrs.frozen(kw_only=True)
class Parts:
    """What a cluster of ours is made of. Each maker takes what the class itself takes, hence the ellipses."""

    network: Callable[..., Network] = Network
    watch: Callable[..., Watch] = Watch
    disk: Callable[..., FakeDisk] = FakeDisk
    history: Callable[[], History] = History
    traced: Traced | None = None  # Hears of every event that is traced,
    arrived: Arrived | None = None  # and of every message that is at the door of its receiver.


PLAIN = Parts()


class Teller(Protocol):
    """Whoever takes down a run."""

    @property
    def builder(self) -> StoryBuilder:
        """Takes events of any world."""
        ...

    def parts(self, cluster: SimCluster) -> Parts:
        """What to make a cluster of ours of, so that it is told of."""
        ...


_teller: ContextVar[Teller | None] = ContextVar("teller", default=None)


@contextmanager
def telling(to: Teller) -> Generator[None, None, None]:
    """Let `to` take down the first run that begins meanwhile."""
    token = _teller.set(to)
    try:
        yield
    finally:
        _teller.reset(token)


def take_teller() -> Teller | None:
    """Who takes down the run of the world that is being made; almost always nobody."""
    teller = _teller.get()
    if teller is not None:
        _teller.set(None)
    return teller
