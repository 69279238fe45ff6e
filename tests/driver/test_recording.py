"""Trace conformance: what the core did over real sockets and files, it does again from its inputs alone."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.driver.local_cluster import Customer, local_cluster
from trio_pb.core.ports import FromClient, FromPeer, WalDone
from trio_pb.driver.recording import RecordedStep, first_difference


async def test_a_recorded_run_of_real_servers_replays_with_identical_outputs(tmp_path: Path) -> None:
    """Orders, a killed primary, its return: every boot, step by step (INV-32)."""
    with trio.fail_after(30):
        async with local_cluster(tmp_path) as cluster:
            await cluster.start(0, 1, 2)
            customer = Customer(cluster, 1)
            for _ in range(20):
                await customer.order("X1 Carbon")
            primary = await cluster.wait_for_primary()
            await cluster.kill(primary)
            await customer.order("without it")
            await cluster.start(primary)
            reply = await customer.order("with it again")
            await cluster.wait_until_applied(reply.op)
    assert len(cluster.recordings) == 4
    kinds = {type(item) for recording in cluster.recordings for step in recording.steps for item in step.inputs}
    assert {FromClient, FromPeer, WalDone} <= kinds
    for recording in cluster.recordings:
        assert recording.steps
        assert first_difference(recording.options, recording.steps) is None


async def test_a_run_that_differs_is_told_by_its_step(tmp_path: Path) -> None:
    """An input that the driver withheld shows where its effect is missing."""
    with trio.fail_after(30):
        async with local_cluster(tmp_path, replicas=1) as cluster:
            await cluster.start(0)
            await Customer(cluster, 1).order("X1 Carbon")
    (recording,) = cluster.recordings
    steps = recording.steps
    index = next(
        number for number, step in enumerate(steps) if step.outputs and any(type(i) is FromClient for i in step.inputs)
    )
    kept = tuple(item for item in steps[index].inputs if type(item) is not FromClient)
    changed = [*steps[:index], RecordedStep(steps[index].now_tick, kept, steps[index].outputs), *steps[index + 1 :]]
    assert first_difference(recording.options, changed) == index
