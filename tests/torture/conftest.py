"""Data directories that a real cluster wrote, once for all tests that damage them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio

from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient
from trio_pb.testbed.cluster import local_cluster

ORDERS = 80
INTERVAL = "32"
SECONDS_MAX = 60


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the directories of three replicas that were stopped. Copy it, never change it."""
    folder = tmp_path_factory.mktemp("written")

    async def write() -> None:
        with trio.fail_after(SECONDS_MAX):
            async with local_cluster(3, flags=["--checkpoint-interval", INTERVAL]) as cluster:
                await cluster.wait_primary()
                async with connect(cluster.addresses) as client:
                    for number in range(ORDERS):
                        await OrderClient(client).place(number % 7, number, "laptop")
                await cluster.wait_agreed()
                for replica in cluster.replicas:
                    assert await cluster.stop(replica) == 0
                    shutil.copytree(cluster.data(replica), folder / str(replica))

    trio.run(write)
    return folder


@pytest.fixture
def data(written: Path, tmp_path: Path) -> Path:
    """A copy of them that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "data"))
