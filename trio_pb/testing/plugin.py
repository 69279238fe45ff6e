"""The pytest plugin: the fixture `sim_cluster`, one test for each seed.

    @pytest.mark.sim(seeds=50)
    def test_my_machine(sim_cluster):
        sim_cluster.run(MyMachine, workload)

It is loaded by every pytest run where trio-pb is installed, so it imports the simulator only when a test needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trio_pb.testing.cluster import SimulatedCluster

__all__ = ["sim_cluster"]

SEEDS = 10
FIXTURE = "sim_cluster"
OPTIONS = frozenset({"seeds", "first_seed", "profile"})


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many seeds, for all tests at once: many at night, one to see a failure again."""
    group = parser.getgroup("trio-pb", "clusters in simulation")
    group.addoption("--sim-seeds", type=int, metavar="N", help="seeds of each test, whatever its mark says")
    group.addoption("--sim-first-seed", type=int, metavar="SEED", help="the first of them")


def pytest_configure(config: pytest.Config) -> None:
    """Describe the mark."""
    config.addinivalue_line(
        "markers", f"sim(seeds={SEEDS}, first_seed=1, profile='all'): seeds and faults of a test with {FIXTURE}"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each seed."""
    if FIXTURE not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker("sim")
    told = dict(mark.kwargs) if mark is not None else {}
    if (mark is not None and mark.args) or told.keys() - OPTIONS:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: @pytest.mark.sim takes {', '.join(sorted(OPTIONS))}")
    seeds = metafunc.config.getoption("--sim-seeds")
    seeds = told.get("seeds", SEEDS) if seeds is None else seeds
    if not isinstance(seeds, int) or seeds < 1:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: {seeds!r} seeds: it takes 1 or more")
    first = metafunc.config.getoption("--sim-first-seed")
    first = told.get("first_seed", 1) if first is None else first
    metafunc.parametrize(
        FIXTURE,
        [(seed, told.get("profile", "all")) for seed in range(first, first + seeds)],
        indirect=True,
        ids=[f"seed{seed}" for seed in range(first, first + seeds)],
    )


@pytest.fixture
def sim_cluster(request: pytest.FixtureRequest) -> SimulatedCluster:
    """A cluster in simulation, of this test's seed."""
    from trio_pb.testing.cluster import SimulatedCluster

    seed, profile = request.param
    test: pytest.Item = request.node  # pyright: ignore[reportUnknownMemberType] -- pytest does not say what it is
    return SimulatedCluster(seed, profile, test.nodeid)
