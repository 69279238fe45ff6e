"""Faults of the network begin and end on their links, each its own part of the weather."""

from __future__ import annotations

from random import Random

import pytest

from trio_pb.testbed.torture.deck import NETWORK, Kind
from trio_pb.testbed.torture.proxy import CALM, CLIENTS, Network
from trio_pb.testbed.torture.storm import brew, names_of

REPLICAS = range(3)


def network() -> Network:
    """Of three replicas that nobody dials."""
    return Network([f"127.0.0.1:{port}" for port in (1, 2, 3)], seed=1)


@pytest.mark.parametrize("kind", sorted(NETWORK))
def test_a_fault_changes_its_links_and_undoes_it(kind: Kind) -> None:
    """And no others."""
    for seed in range(30):
        it = network()
        storm = brew(it, REPLICAS, kind, victim=1, random=Random(seed))
        for link in storm.links:
            storm.begin(link)
        for link in it.links:
            is_hit = link.forth != CALM or link.is_cut or link.is_half_open
            assert is_hit == (link in storm.links), storm
        for link in storm.links:
            storm.end(link)
        for link in it.links:
            assert link.forth == link.back == CALM
            assert not link.is_cut
            assert not link.is_half_open


def test_two_faults_on_one_link_do_not_undo_one_another() -> None:
    """Each has its own part of the weather."""
    it = network()
    link = it.link(0, 1)
    storms = [brew(it, REPLICAS, kind, 1, Random(1)) for kind in sorted(NETWORK)]
    for storm in storms:
        storm.begin(link)
    everything = link.forth
    for index, storm in enumerate(storms):
        storm.end(link)
        assert (link.forth == CALM and not link.is_cut and not link.is_half_open) == (index == len(storms) - 1)
    assert everything.drop_share
    assert everything.delay_seconds
    assert everything.bytes_per_second
    assert everything.is_closed


def test_a_one_way_street_leaves_the_way_back_open() -> None:
    """No link of the other direction is closed, and none of clients."""
    for seed in range(30):
        storm = brew(network(), REPLICAS, Kind.ONE_WAY, victim=1, random=Random(seed))
        ways = {(link.source, link.target) for link in storm.links}
        assert not ways & {(target, source) for source, target in ways}
        assert CLIENTS not in {source for source, _ in ways}


def test_every_place_is_struck_by_some_seed() -> None:
    """One direction, one pair, one replica, its clients, everything."""
    places = {brew(network(), REPLICAS, Kind.CUT, 1, Random(seed)).where for seed in range(200)}
    assert len(places) >= 8
    assert "everywhere" in places


def test_names() -> None:
    """As one says them."""
    assert names_of([2]) == "replica 2"
    assert names_of([0, 1, 2]) == "replicas 0, 1 and 2"
