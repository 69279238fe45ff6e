"""For the tests of state machines: clusters in simulation, workloads, and the check of determinism.

A workload says what clients ask: a function that is told whose turn it is, or a Hypothesis strategy. In pytest,
the fixture `sim_cluster` runs a machine (docs/how-to/test-your-machine.md); elsewhere:

    report = run_seed(1, MachineRuns("my.module:MyMachine", "my.tests:workload"))
    assert report.failure is None
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.requests import Command, Query, Request, Turn, Workload

if TYPE_CHECKING:
    from sim.determinism import Divergence, check_determinism
    from sim.experiment import run_seed
    from sim.machines import MachineRuns
    from sim.run import Failure, RunReport
    from trio_pb.testing.cluster import SimulatedCluster, assert_deterministic

__all__ = [
    "Command",
    "Divergence",
    "Failure",
    "MachineRuns",
    "Query",
    "Request",
    "RunReport",
    "SimulatedCluster",
    "Turn",
    "Workload",
    "assert_deterministic",
    "check_determinism",
    "run_seed",
]


def __getattr__(name: str) -> object:
    # A module with a workload imports this one; the simulator is imported by whoever runs it.
    if name in ("Divergence", "check_determinism"):
        from sim import determinism

        return getattr(determinism, name)
    if name in ("Failure", "RunReport"):
        from sim import run

        return getattr(run, name)
    if name in ("SimulatedCluster", "assert_deterministic"):
        from trio_pb.testing import cluster

        return getattr(cluster, name)
    if name == "MachineRuns":
        from sim.machines import MachineRuns

        return MachineRuns
    if name == "run_seed":
        from sim.experiment import run_seed

        return run_seed
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
