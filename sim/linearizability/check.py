"""Check a history: partition by partition, then what joins them; make a counterexample small."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from sim.linearizability.history import Call
from sim.linearizability.joins import agree, joined_calls, joint_parts
from sim.linearizability.minimise import minimise
from sim.linearizability.model import AnyModel, Part
from sim.linearizability.report import Counterexample, Report, counterexample_of
from sim.linearizability.search import Found, Verdict, search

__all__ = ["BUDGET_STEPS", "Counterexample", "Report", "Verdict", "check"]

BUDGET_STEPS = 2_000_000  # Some seconds.
MINIMISING_STEPS = 200_000  # For one candidate of a smaller counterexample.


def check(model: AnyModel, calls: Sequence[Call], budget_steps: int = BUDGET_STEPS) -> Report:
    """Say whether one order of all calls explains every answer.

    The verdict is UNKNOWN when that took more than about `budget_steps` steps of the model.
    """
    partitions = model.split(calls)
    steps = 0
    decided = True
    orders: dict[Hashable, tuple[int, ...]] = {}

    def report(verdict: Verdict, counterexample: Counterexample | None = None) -> Report:
        return Report(
            verdict=verdict,
            model=model.name,
            calls=len(calls),
            partitions=len(partitions),
            steps=steps,
            counterexample=counterexample,
        )

    for key, parts in partitions.items():
        found = search(model, parts, budget_steps - steps)
        steps += found.steps
        if found.verdict is Verdict.VIOLATION:
            return report(Verdict.VIOLATION, _small(model, key, parts, calls, found))
        decided = decided and found.verdict is Verdict.LINEARIZABLE
        orders[key] = found.order
    if not decided:
        return report(Verdict.UNKNOWN)
    joined = joined_calls(partitions)
    if not joined or agree(model, partitions, orders, joined, budget_steps - steps):
        return report(Verdict.LINEARIZABLE)
    joint, parts = joint_parts(model, partitions, joined)
    found = search(joint, parts, budget_steps - steps)
    steps += found.steps
    if found.verdict is Verdict.VIOLATION:
        return report(Verdict.VIOLATION, _small(joint, None, parts, calls, found))
    return report(found.verdict)


def _small(
    model: AnyModel, key: Hashable, parts: Sequence[Part], calls: Sequence[Call], found: Found
) -> Counterexample:
    small = minimise(model, parts, max(found.steps, MINIMISING_STEPS))
    return counterexample_of(model, key, small, calls, search(model, small, max(found.steps, MINIMISING_STEPS)))
