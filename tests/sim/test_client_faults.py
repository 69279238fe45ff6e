"""Clients that die, come back and talk nonsense; arrivals that do not wait; frames that come too late."""

from __future__ import annotations

import attrs
import pytest

from sim.choices import Choices, Key
from sim.client_faults import ClientFaults
from sim.cluster import SimCluster
from sim.oracles.op_order import check_history
from sim.raw_client import OddClient, ReturningClient
from sim.scheduler import SECOND
from sim.shape import FaultPlan, Shape, WorkloadPlan
from sim.workload import Workload
from trio_pb.core.marks import Mark, take_reached

WORK = WorkloadPlan(operations=30, think_mean=20_000)
SHAPE = Shape(clients=2, workload=WORK)


class _World:
    """A cluster with a primary and two clients that work."""

    def __init__(self, shape: Shape = SHAPE, **decisions: int) -> None:
        recorded: dict[Key, int] = {("client crash", 0, name): value for name, value in decisions.items()}
        self.cluster = SimCluster(Choices(1, recorded), shape)
        self.cluster.start()
        self.workloads = [
            Workload(client, index, shape.workload, self.cluster.choices, self.cluster.scheduler)
            for index, client in enumerate(self.cluster.clients)
        ]
        for workload in self.workloads:
            workload.start()
        self.noted: list[str] = []
        self.faults = ClientFaults(self.cluster, self.noted.append, lambda: False)
        self.acts = {name: act for name, _, act in self.faults.plan()}

    @property
    def primary(self) -> int:
        """Who leads."""
        return next(it.number for it in self.cluster.replicas if it.is_primary)

    def wait_for(self, ended: int) -> None:
        """Let clients work until so many operations ended."""
        limit = self.cluster.scheduler.now + 60 * SECOND
        assert self.cluster.run_until(lambda: self.cluster.history.ended >= ended, limit)

    def finish(self) -> None:
        """Let clients finish, and judge what they heard."""
        limit = self.cluster.scheduler.now + 60 * SECOND
        assert self.cluster.run_until(lambda: all(it.is_done for it in self.workloads), limit)
        self.cluster.scheduler.run_until(self.cluster.scheduler.now + SECOND)
        check_history(self.cluster.facts, self.cluster.history, self.cluster.executed.model)


def test_a_client_that_dies_leaves_unknown_outcomes_and_another_goes_on() -> None:
    """What it waited for has no outcome; all of its work is asked for all the same."""
    world = _World(attrs.evolve(SHAPE, workload=attrs.evolve(WORK, in_flight=4)), who=1)
    client = world.cluster.clients[1]
    assert world.cluster.run_until(lambda: len(client.pending) == 4, 10 * SECOND)
    before = client.machine
    world.acts["client crash"](0)
    assert client.machine is not before
    assert not client.pending
    world.finish()
    unknown = [it for it in world.cluster.history.operations if it.outcome is None]
    assert [it.client for it in unknown] == [client.name] * 4
    assert len([it for it in world.cluster.history.operations if not it.cursor]) >= 2 * WORK.operations
    assert world.noted == ["client crash"]


def test_a_client_comes_back_with_its_session() -> None:
    """It gets the same session again, and what it sends again is executed once."""
    world = _World()
    world.wait_for(5)
    take_reached()
    client = world.cluster.add_client_of(ReturningClient)
    for _ in range(4):
        client.come_back(world.primary)
        world.cluster.scheduler.run_until(world.cluster.scheduler.now + 4000)  # Too short to hear the answer.
    for _ in range(4):
        client.come_back(world.primary)
        world.cluster.scheduler.run_until(world.cluster.scheduler.now + SECOND // 4)
    world.finish()
    marks = take_reached()
    assert Mark.REGISTERED_AGAIN in marks
    assert Mark.DUPLICATE_ANSWERED in marks
    placed = [it for it in world.cluster.history.operations if it.client == client.name]
    model = world.cluster.executed.model
    assert len(placed) >= 4
    assert [model.executed.get((it.code, it.body), 0) for it in placed] == [1] * len(placed)


def test_nonsense_is_refused_and_harms_nobody() -> None:
    """Requests without a session, numbers beyond all windows, codes that nobody knows; bytes that are no frame."""
    world = _World()
    world.wait_for(5)
    client = world.cluster.add_client_of(OddClient)
    for index in range(60):
        client.babble(("odd", index), world.primary)
        assert client.garble(("odd", index)) in (True, False)
        world.cluster.scheduler.run_until(world.cluster.scheduler.now + SECOND // 50)
    assert sum(client.garble(("bytes", index)) for index in range(200)) > 100
    world.finish()


def test_open_arrivals_do_not_wait() -> None:
    """Where nothing is answered, a closed loop stops and an open one does not."""
    for is_open in (False, True):
        shape = attrs.evolve(SHAPE, workload=attrs.evolve(WORK, is_open=is_open))
        world = _World(shape)
        world.cluster.network.block([it.node for it in world.cluster.clients], [0, 1, 2])
        world.cluster.scheduler.run_until(20 * SECOND)
        begun = len(world.cluster.history.operations)
        assert begun == (2 * WORK.operations if is_open else 2)
        world.cluster.network.heal()
        world.finish()


@pytest.mark.parametrize("lateness", [0.0, 1.0])
def test_a_frame_that_comes_late_is_executed_once(lateness: float) -> None:
    """A request that its client sent again meanwhile is a duplicate."""
    network = attrs.evolve(SHAPE.network, loss=0.4, lateness=lateness)
    shape = attrs.evolve(SHAPE, network=network, faults=FaultPlan())
    cluster = SimCluster(Choices(1), shape)
    cluster.start()
    workloads = [
        Workload(client, index, WORK, cluster.choices, cluster.scheduler)
        for index, client in enumerate(cluster.clients)
    ]
    for workload in workloads:
        workload.start()
    assert cluster.run_until(lambda: all(it.is_done for it in workloads), 300 * SECOND)
    assert (cluster.network.counts["late"] > 0) == (lateness > 0)
    check_history(cluster.facts, cluster.history, cluster.executed.model)
