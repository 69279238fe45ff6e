"""What a replica says when it is started by people who make mistakes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import trio

from trio_pb.testbed.cluster import local_cluster
from trio_pb.testbed.formatting import cluster_id, format_replica
from trio_pb.testbed.process import replica_command

pytestmark = pytest.mark.process

SECONDS_MAX = 40


async def words_of(directory: Path, *peers: str, until: bytes) -> bytes:
    """Start a replica and return what it says on stderr, up to `until`."""
    command = replica_command(
        "start", str(directory), "--listen", "127.0.0.1:0", "--segment-mib", "1", "--peers", *peers
    )
    process = await trio.lowlevel.open_process(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    said = b""
    assert process.stderr is not None
    try:
        async with process.stderr:
            while until not in said and (data := await process.stderr.receive_some()):
                said += data
    finally:
        process.kill()
    await process.wait()
    return said


async def test_a_directory_of_another_cluster_is_told_of(tmp_path: Path) -> None:
    """A replica that nobody wants to know says whom it found at each address, and does no harm to them."""
    directory = tmp_path / "data"
    stranger = cluster_id("another")
    format_replica(directory, cluster=stranger, replica=2, members=range(3), segment_size=1 << 20)
    with trio.fail_after(SECONDS_MAX):
        async with local_cluster(3) as cluster:
            await cluster.wait_primary()
            first, second, _ = cluster.addresses
            said = await words_of(directory, f"0={first}", f"1={second}", until=b"replica 1 at")
            assert f"replica 0 at {first}: belongs to another cluster, {cluster_id('testbed').hex()}".encode() in said
            assert f"ours is {stranger.hex()}".encode() in said
            await cluster.wait_agreed()


async def test_a_first_start_alone_says_whom_it_waits_for(tmp_path: Path) -> None:
    """Nobody is there yet: no error, but no silence either."""
    directory = tmp_path / "data"
    format_replica(directory, cluster=cluster_id("c"), replica=0, members=range(2), segment_size=1 << 20)
    with trio.fail_after(SECONDS_MAX):
        said = await words_of(directory, "1=127.0.0.1:1", until=b"replica 1 at 127.0.0.1:1: no answer\n")
    assert b"the first start needs all replicas at once" in said
    assert b"no answer" in said
