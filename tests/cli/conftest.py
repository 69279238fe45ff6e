"""A data directory that a real cluster wrote, once for all tests of the offline tools."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio

from tests.driver.local_cluster import Customer, local_cluster

ORDERS = 6  # Of each of three customers; registering one is an op as well.
SECONDS_MAX = 60


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped backup with two segments: it was restarted after the second customer. Copy it, never change it."""
    directory = tmp_path_factory.mktemp("cluster")

    async def write() -> Path:
        with trio.fail_after(SECONDS_MAX):
            async with local_cluster(directory) as cluster:
                await cluster.start(*cluster.replicas)
                backup = (await cluster.wait_for_primary() + 1) % len(cluster.replicas)
                for number in (1, 2, 3):
                    customer = Customer(cluster, number)
                    for order in range(ORDERS):
                        await customer.order("laptop" * (1 if order % 2 else 20))
                    await cluster.wait_until_applied(number * (ORDERS + 1))
                    if number == 2:
                        await cluster.stop(backup)
                        await cluster.start(backup)
                await cluster.stop(backup)
                return cluster.path_of(backup)

    return trio.run(write)


@pytest.fixture
def data(written: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "data"))
