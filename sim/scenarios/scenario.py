"""What a named scenario is, and how one is played."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from sim.narrated import NarratedCluster
from sim.shape import Shape

__all__ = ["Scenario", "scenario"]

Play: TypeAlias = "Callable[[NarratedCluster], None]"


@attrs.frozen(kw_only=True)
class Scenario:
    """A play, and the cluster that it needs."""

    name: str  # `slow-backup-delays-nobody`: what the command line calls it.
    subject: str  # `view change`
    title: str  # What it shows, in a sentence.
    play: Play
    replicas: int = 3
    shape: Shape = attrs.field(factory=Shape)
    is_new: bool = False  # The cluster has not met yet when the play begins.

    def cluster(self) -> NarratedCluster:
        """Return a cluster to play it on, with all oracles; whoever has it has the story, also when that ends badly."""
        return NarratedCluster(self.replicas, shape=self.shape, ready=not self.is_new)


def scenario(*, replicas: int = 3, shape: Shape | None = None, is_new: bool = False) -> Callable[[Play], Scenario]:
    """Make a scenario of a function: it is named after it, its subject after its room; its docstring is the title."""

    def made(play: Play) -> Scenario:
        return Scenario(
            name=play.__name__.replace("_", "-"),
            subject=play.__module__.rpartition(".")[2].replace("_", " "),
            title=(play.__doc__ or "").strip(),
            play=play,
            replicas=replicas,
            shape=shape or Shape(),
            is_new=is_new,
        )

    return made
