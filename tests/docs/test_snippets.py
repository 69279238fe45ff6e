"""Python in the documentation runs as it is written, against a real cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.docs.pages import PAGES, ROOT, blocks, name_of
from trio_pb.testbed.cluster import local_cluster

SECONDS_MAX = 60
SNIPPETS = [(page, body) for page in PAGES for body in blocks(page, "python")]


def test_the_readme_shows_a_program() -> None:
    """There is something to run here."""
    assert [name_of(page) for page, _ in SNIPPETS].count("README.md") >= 1


@pytest.mark.process
@pytest.mark.parametrize(("page", "body"), SNIPPETS, ids=[name_of(page) for page, _ in SNIPPETS])
async def test_snippets_run_twice(page: Path, body: str) -> None:
    """Only the ports are other ones; a second run finds what the first one did."""
    with trio.fail_after(SECONDS_MAX):
        async with local_cluster(3) as cluster:
            await cluster.wait_primary()
            for replica, address in enumerate(cluster.addresses):
                body = body.replace(f"127.0.0.1:740{replica}", address)
            assert "127.0.0.1:74" not in body, f"{name_of(page)}: an address that the tutorial's cluster does not have"
            said: list[bytes] = []
            for _ in range(2):
                done = await trio.run_process(
                    [sys.executable, "-c", body], capture_stdout=True, check=False, cwd=ROOT, stderr=subprocess.STDOUT
                )
                assert done.returncode == 0, done.stdout.decode()
                said.append(done.stdout)
            assert said[0] == said[1]
            assert said[0]
