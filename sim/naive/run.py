"""Run a script against a kind of replica, from its first event to the verdict."""

from __future__ import annotations

import traceback
from collections import Counter
from pathlib import Path

import attrs

from sim.choices import Choices
from sim.naive.cluster import NaiveCluster
from sim.naive.replica import Replica
from sim.naive.scripts import Script
from sim.narration import Line
from sim.oracles.facts import Violation
from sim.run import Failure, RunReport

__all__ = ["Verdict", "play", "play_on", "report_of"]


@attrs.frozen(kw_only=True)
class Verdict:
    """How a script ended."""

    cluster: NaiveCluster
    violation: Violation | None  # None: everything held.

    @property
    def rule(self) -> str | None:
        """The judge that spoke."""
        return None if self.violation is None else self.violation.rule

    @property
    def text(self) -> str | None:
        """What it said."""
        return None if self.violation is None else str(self.violation).removeprefix(f"{self.violation.rule}: ")

    @property
    def story(self) -> list[Line]:
        """What happened, sentence by sentence."""
        return self.cluster.narration.lines


def play(script: Script, choices: Choices, *, kind: type[Replica] | None = None, noisy: bool = False) -> Verdict:
    """Run a script, by default against the mistake that it is about, until a judge speaks or all is well."""
    return play_on(script, NaiveCluster(choices, script.mistake if kind is None else kind, noisy=noisy))


def play_on(script: Script, cluster: NaiveCluster) -> Verdict:
    """Run a script on a cluster that nothing has happened to."""
    try:
        script.play(cluster)
        cluster.settle()
    except Violation as violation:
        return Verdict(cluster=cluster, violation=violation)
    return Verdict(cluster=cluster, violation=None)


def report_of(verdict: Verdict) -> RunReport:
    """Return a run in the numbers that all runs are told in."""
    cluster = verdict.cluster
    counts = Counter(cluster.counts)
    counts.update({f"messages {name}": count for name, count in cluster.network.counts.items()})
    return RunReport(
        seed=cluster.choices.seed,
        replicas=len(cluster.nodes),
        events=cluster.happened,
        steps=cluster.steps,
        committed=max(node.core.committed if node.core is not None else 0 for node in cluster.nodes),
        virtual_us=cluster.scheduler.now,
        trace_digest=cluster.trace_digest,
        counts=counts,
        marks=frozenset(),
        choices=len(cluster.choices.made),
        failure=_failure(verdict),
    )


def _failure(verdict: Verdict) -> Failure | None:
    violation = verdict.violation
    if violation is None or verdict.text is None:
        return None
    judge = [frame for frame in traceback.extract_tb(violation.__traceback__) if frame.name != "violate"][-1]
    where = f"{Path(judge.filename).name}:{judge.name}"
    return Failure(violation.rule, verdict.text, where, "\n".join(map(str, verdict.story)))
