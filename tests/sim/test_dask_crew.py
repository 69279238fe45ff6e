"""A crew of Dask workers: the same report as of processes here, and what is wrong with a cluster said by name."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import attrs
import distributed
import pytest

from sim import code_digest as code_digest_room
from sim.crews import Processes
from sim.dask_crew import FarmError, dask_crew
from sim.experiment import Swarm
from sim.farm import SweepReport, sweep
from trio_pb.errors import ConfigError

FIRST, SEEDS = 5, 4


@contextmanager
def _cluster(**options: Any) -> Generator[Any]:
    """A scheduler and its workers, processes of this machine."""
    options = {"dashboard_address": None, "host": "127.0.0.1", "protocol": "tcp://", **options}
    package: Any = distributed  # It has no types.
    with package.LocalCluster(**options) as cluster:
        yield cluster


class _OtherCode:
    """Here it is another digest than that of the code; on a worker it is that of its code."""

    def __call__(self) -> int:
        return 1

    def __reduce__(self) -> tuple[object, ...]:
        return getattr, (code_digest_room, "code_digest")


def _known(report: SweepReport) -> SweepReport:
    """Without what depends on the machine."""
    return attrs.evolve(report, cpu_seconds=0.0, wall_seconds=0.0)


def test_a_cluster_finds_what_one_process_finds() -> None:
    """Whole reports are equal, of real runs; and the crew knows how many it is."""
    alone = sweep(FIRST, SEEDS, Processes(1), experiment=Swarm("network"))
    with _cluster(n_workers=2, threads_per_worker=1) as cluster, dask_crew(cluster.scheduler_address) as crew:
        assert crew.size == 2
        told: list[int] = []
        together = sweep(
            FIRST, SEEDS, crew, progress=lambda report: told.append(report.seeds), experiment=Swarm("network")
        )
        assert told == [2, 4]
        # Whoever has seen enough stops, and the crew is there for the next.
        stopped = sweep(FIRST, SEEDS, crew, experiment=Swarm("network"), stop_after_failures=0)
        assert stopped.seeds == 2
    assert _known(together) == _known(alone)


def test_a_worker_with_threads_is_refused() -> None:
    """Two runs in one process would share its processor time and its collector."""
    with (
        _cluster(n_workers=1, threads_per_worker=2, processes=False) as cluster,
        pytest.raises(ConfigError, match=r"worker \S+ has 2 threads.*--nthreads=1"),
        dask_crew(cluster.scheduler_address),
    ):
        pass


def test_a_cluster_without_workers_is_refused() -> None:
    """It would wait for ever."""
    with (
        _cluster(n_workers=0, processes=False) as cluster,
        pytest.raises(ConfigError, match="it has no workers; start some"),
        dask_crew(cluster.scheduler_address),
    ):
        pass


def test_a_worker_with_other_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it found would be found of something else."""
    with _cluster(n_workers=1, threads_per_worker=1) as cluster:
        with dask_crew(cluster.scheduler_address):
            pass  # It has the same.
        monkeypatch.setattr("sim.dask_crew.code_digest", _OtherCode())
        with (
            pytest.raises(ConfigError, match="has other code than this process"),
            dask_crew(cluster.scheduler_address),
        ):
            pass


def test_a_worker_that_joins_with_other_code_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what it found taken in."""
    report = SweepReport(FIRST, Swarm("network"))
    with _cluster(n_workers=1, threads_per_worker=1) as cluster, dask_crew(cluster.scheduler_address) as crew:
        monkeypatch.setattr("sim.dask_crew.code_digest", lambda: 1)
        with pytest.raises(FarmError, match="a worker that joined has other code"):
            sweep(FIRST, 1, crew, experiment=Swarm("network"), so_far=report)
    assert report.seeds == 0


def test_a_cluster_that_breaks_down_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler goes while seeds are run."""
    monkeypatch.setattr("sim.dask_crew.CONNECT_SECONDS", 1)
    with _cluster(n_workers=1, threads_per_worker=1) as cluster, dask_crew(cluster.scheduler_address) as crew:
        told: list[int] = []

        def stop(report: SweepReport) -> None:
            told.append(report.seeds)
            cluster.close()

        with pytest.raises(FarmError, match="the cluster of workers broke down"):
            sweep(FIRST, 40, crew, progress=stop, experiment=Swarm("network"))
    assert told == [10]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere://x"])
def test_nobody_there_is_said(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do."""
    monkeypatch.setattr("sim.dask_crew.CONNECT_SECONDS", 1)
    with pytest.raises(ConfigError, match="no Dask scheduler answers there"), dask_crew(address):
        pass
