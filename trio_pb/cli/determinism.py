"""What `trio-pb sim run MACHINE` says of the check of determinism."""

from __future__ import annotations

from collections.abc import Sequence

from sim.determinism import Divergence, variants
from sim.experiment import Experiment
from sim.machines import MachineRuns
from sim.requests import Command

__all__ = ["determinism_fields", "print_determinism"]


def determinism_fields(experiment: Experiment, divergence: Divergence | None) -> dict[str, object]:
    """Return the fields of the JSON object that tell of it."""
    if not isinstance(experiment, MachineRuns):
        return {}
    if divergence is None:
        return {"deterministic": True, "divergence": None}
    return {
        "deterministic": False,
        "divergence": {
            "number": divergence.number,
            "kind": "command" if isinstance(divergence.request, Command) else "query",
            "code": divergence.request.code,
            "handler": divergence.handler,
            "body": divergence.request.body.hex(),
            "variant": divergence.variant.name,
            "what": divergence.what,
            "first": divergence.first,
            "other": divergence.other,
        },
    }


def print_determinism(experiment: Experiment, divergence: Divergence | None, pythons: Sequence[str]) -> None:
    """Say it to people."""
    if not isinstance(experiment, MachineRuns):
        return
    print()
    if divergence is None:
        print("Deterministic: one log gave the same answers and the same states with")
        for variant in variants(pythons):
            print(f"  {variant.name}")
    else:
        print(divergence.text)
