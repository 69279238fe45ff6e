"""Cuts have the shape that they are named for, and are mended."""

from __future__ import annotations

import pytest

from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.links import Link
from sim.network import CLIENT_NODES
from sim.partitions import FLAPS, Partitions
from sim.scheduler import SECOND
from sim.shape import FaultPlan, Shape

BRIDGE, RING, PRIMARY, CLIENT, FLAPPING = range(5)


class _World:
    """A cluster with a primary, in which one special cut is made."""

    def __init__(self, kind: int, replicas: int = 5, **decisions: int) -> None:
        recorded: dict[Key, int] = {("partition", 0, "special"): 1, ("partition", 0, "kind"): kind}
        recorded.update({("partition", 0, label): value for label, value in decisions.items()})
        shape = Shape(replicas=replicas, clients=2, faults=FaultPlan(partitions=1))
        self.cluster = SimCluster(Choices(1, recorded), shape)
        self.cluster.start()
        assert self.cluster.run_until(lambda: any(it.is_primary for it in self.cluster.replicas), 10 * SECOND)
        self.noted: list[str] = []
        partitions = Partitions(self.cluster, self.noted.append, lambda: False, lambda _key: self.cluster.replicas[2])
        ((_, _, self.cut),) = partitions.plan()

    @property
    def blocked(self) -> set[Link]:
        """The links that are cut."""
        return self.cluster.network.blocked

    def reaches(self, node: int) -> set[int]:
        """Whom a node exchanges messages with."""
        nodes = self.cluster.nodes
        return {to for to in nodes if to != node and not {(node, to), (to, node)} & self.blocked}

    def mended(self) -> bool:
        """Whether the cut is gone in the end."""
        return self.cluster.run_until(lambda: not self.blocked, self.cluster.scheduler.now + 60 * SECOND)


def test_bridge_makes_two_majorities_that_share_a_node() -> None:
    """Each side of two reaches the hub and not the other side."""
    world = _World(BRIDGE)
    world.cut(0)
    replicas = set(range(5))
    assert world.reaches(2) >= replicas - {2}
    sides = {frozenset(world.reaches(number) & replicas | {number}) for number in replicas - {2}}
    assert {len(side) for side in sides} == {3}
    one, other = sides
    assert one & other == {2}
    assert world.noted == ["bridge"]
    assert world.mended()


@pytest.mark.parametrize("replicas", [5, 7])
def test_ring_leaves_two_neighbours(replicas: int) -> None:
    """Nobody hears more than two others."""
    world = _World(RING, replicas)
    world.cut(0)
    for number in range(replicas):
        near = {(number + 1) % replicas, (number - 1) % replicas}
        assert {node for node in world.reaches(number) if node < CLIENT_NODES} == near
    assert world.mended()


def test_three_have_no_ring() -> None:
    """All three are neighbours: nothing is cut, and nothing is counted."""
    world = _World(RING, 3)
    world.cut(0)
    assert not world.blocked
    assert world.noted == []


@pytest.mark.parametrize("with_clients", [0, 1])
def test_the_primary_is_cut_off(with_clients: int) -> None:
    """From the others, and perhaps from the clients too."""
    world = _World(PRIMARY, **{"clients too": with_clients})
    (primary,) = (replica.number for replica in world.cluster.replicas if replica.is_primary)
    world.cut(0)
    assert len(world.reaches(primary)) == (0 if with_clients else 2)
    assert world.mended()


def test_one_client_is_cut_off() -> None:
    """It reaches nobody; the other one reaches everybody."""
    world = _World(CLIENT)
    world.cut(0)
    assert not {node for node in world.reaches(CLIENT_NODES) if node < CLIENT_NODES}
    assert len({node for node in world.reaches(CLIENT_NODES + 1) if node < CLIENT_NODES}) == 5
    assert world.mended()


def test_flapping_cuts_and_mends_again_and_again() -> None:
    """As often as it is named for, and in the end it is mended."""
    world = _World(FLAPPING)
    states: list[bool] = []
    world.cut(0)

    def look() -> bool:
        if not states or states[-1] != bool(world.blocked):
            states.append(bool(world.blocked))
        return False

    world.cluster.run_until(look, world.cluster.scheduler.now + 20 * SECOND)
    assert states.count(True) == FLAPS
    assert states[-1] is False
