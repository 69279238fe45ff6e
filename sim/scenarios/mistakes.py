"""The scripts that show twelve mistakes of textbook primary-backup, against trio_pb: it survives each (`sim.naive`)."""

from __future__ import annotations

from sim.naive.scripts import SCRIPTS, Script
from sim.narrated import NarratedCluster
from sim.scenarios.scenario import Scenario

__all__ = ["SURVIVED"]


def _survived(script: Script) -> Scenario:
    def play(c: NarratedCluster) -> None:
        script.play(c)
        c.settle()

    return Scenario(name=script.name, subject="mistakes", title=script.shows, play=play)


SURVIVED = tuple(_survived(script) for script in SCRIPTS.values())
