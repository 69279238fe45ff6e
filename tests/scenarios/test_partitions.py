"""Partitions of every shape: who may lead, who must not be deposed, who goes on (T-8, T-9, PROTOCOL 6.2)."""

from __future__ import annotations

from sim.scenario import Cluster


def go_on(c: Cluster, orders: int = 3) -> None:
    """The cluster takes orders now."""
    for number in range(orders):
        c.order(f"laptop-{number}", customer=7).expect_reply()


def expect_stable(c: Cluster, ticks: int, view_changes: int) -> None:
    """Orders are taken for `ticks`, during which at most `view_changes` more views begin anywhere."""
    before = c.view_changes
    end = c.now + ticks
    while c.now < end:
        c.order("laptop", customer=9).expect_reply()
        c.run_for(50)
    assert c.view_changes - before <= view_changes * len(c.names)


# --- Half-connected replicas --------------------------------------------------------------------------


def test_t_8_replica_that_reaches_only_one_other_deposes_nobody_among_five() -> None:
    """T-8, the etcd outage of 2020: one of five reaches a single backup, for a long time."""
    c = Cluster(replicas=5)
    a, b, other, *rest = c.names
    for name in (a, *rest):
        c.cut(b, name)
    c.cut(b, other)
    c.mend(b, other)
    expect_stable(c, 600, view_changes=0)
    assert c.primaries() == [a]
    c.heal()
    c.expect_same_state()


def test_t_8_half_connected_replica_restarts_again_and_again() -> None:
    """T-8: each boot of a replica that cannot hear the primary starts quietly as a backup."""
    c = Cluster()
    a, b, _ = c.names
    c.cut(a, b)
    before = c.view_changes
    for number in range(5):
        c.crash(b)
        c.restart(b)
        c.run_for(120)
        c.order(f"laptop-{number}").expect_reply()
    assert c.view_changes == before
    c.heal()
    c.expect_same_state()


def test_isolated_backup_costs_no_view_change() -> None:
    """INV-34: a backup alone, and its return, move nobody."""
    c = Cluster()
    b = c.names[1]
    before = c.view_changes
    c.isolate(b)
    expect_stable(c, 500, view_changes=0)
    c.heal()
    c.expect_same_state()
    assert c.view_changes == before


# --- One-way links ------------------------------------------------------------------------------------


def test_primary_that_nobody_hears_is_replaced() -> None:
    """T_SUSPECT: the others move on; the mute one hears of the new view and joins it."""
    c = Cluster()
    a, b, other = c.names
    for name in (b, other):
        c.cut(a, name, one_way=True)
    c.await_primary(b, other)
    expect_stable(c, 500, view_changes=0)
    assert c.replica(a).view == c.replica(b).view
    c.heal()
    c.expect_same_state()


def test_deaf_backup_moves_nobody() -> None:
    """INV-34: a backup that hears nobody, and whom all hear wishing, is alone with its wish."""
    c = Cluster()
    a, b, other = c.names
    for name in (a, other):
        c.cut(name, b, one_way=True)
    expect_stable(c, 600, view_changes=0)
    assert c.primaries() == [a]
    c.heal()
    c.expect_same_state()


def test_mute_backup_moves_nobody() -> None:
    """INV-34: a backup that hears all and is heard by nobody."""
    c = Cluster()
    a, b, other = c.names
    for name in (a, other):
        c.cut(b, name, one_way=True)
    expect_stable(c, 500, view_changes=0)
    assert c.primaries() == [a]
    c.heal()
    c.expect_same_state()


def test_primary_deaf_to_one_backup_goes_on_with_the_other() -> None:
    """One direction of one link is gone: whoever it is, the other two are a quorum."""
    c = Cluster()
    a, b, other = c.names
    c.cut(b, a, one_way=True)
    expect_stable(c, 500, view_changes=0)
    c.crash(other)
    c.order("laptop", customer=3).expect_no_reply(500)  # Two replicas without a full link are no quorum.
    c.restart(other)
    go_on(c)
    c.heal()
    c.expect_same_state()


# --- Topologies where few can lead --------------------------------------------------------------------


def test_t_9_hub_leads_wherever_it_stands_in_the_order_of_views() -> None:
    """T-9: the same, with every backup as the hub in turn.

    For half a second all still look well connected to one another, so a first view may go to another.
    """
    for position in range(1, 5):
        c = Cluster(replicas=5)
        hub = c.names[position]
        c.connect_only(*((hub, name) for name in c.names if name != hub))
        c.await_primary(hub)
        assert c.count("view_timeout") < len(c.names), "more than one view came to nothing"
        go_on(c, orders=1)
        c.heal()
        c.expect_same_state()


def test_t_9_three_in_a_line_led_from_the_end() -> None:
    """T-9, chained: the primary at the end has its neighbour for a quorum, and is not deposed."""
    c = Cluster()
    a, b, end = c.names
    c.connect_only((a, b), (b, end))
    expect_stable(c, 600, view_changes=0)
    assert c.primaries() == [a]
    c.heal()
    c.expect_same_state()


def test_t_9_three_in_a_line_lose_the_end_that_leads() -> None:
    """T-9, chained: the primary at the end dies; the middle or the other end leads."""
    c = Cluster()
    a, b, end = c.names
    c.connect_only((a, b), (b, end))
    c.crash(a)
    c.await_primary(b, end)
    expect_stable(c, 500, view_changes=0)
    c.restart(a)
    c.heal()
    c.expect_same_state()


def test_t_9_five_in_a_line_led_from_the_end() -> None:
    """T-9, chained: the primary at the end reaches two of five; an inner one must take over."""
    c = Cluster(replicas=5)
    a, b, middle, d, e = c.names
    c.connect_only((a, b), (b, middle), (middle, d), (d, e))
    new = c.await_primary(b, middle, d)
    c.run_for(300)
    go_on(c)
    expect_stable(c, 600, view_changes=0)
    assert c.primaries() == [new]
    c.heal()
    c.expect_same_state()


def test_t_9_bridge_leads_between_two_sides() -> None:
    """T-9, bridging: the primary is the one that both sides reach, and dies."""
    c = Cluster(replicas=5)
    bridge, b, d, e, f = c.names
    c.connect_only((b, d), (e, f), *((bridge, name) for name in (b, d, e, f)))
    expect_stable(c, 300, view_changes=0)
    c.crash(bridge)
    c.order("laptop", customer=4).expect_no_reply(300)  # Two sides of two: nobody.
    c.restart(bridge)
    go_on(c)
    c.heal()
    c.expect_same_state()


# --- Links that come and go ---------------------------------------------------------------------------


def test_flapping_primary_is_left_behind_once() -> None:
    """A primary whose links break for a second and mend for a second is replaced, then it follows."""
    c = Cluster()
    a, b, _ = c.names
    for number in range(6):
        c.isolate(a)
        c.order(f"laptop-{number}").expect_reply()
        c.run_for(100)
        c.heal()
        c.run_for(100)
    assert c.primaries() == [b]
    assert c.count("became_primary") == 2
    c.expect_same_state()


def test_every_link_flaps_in_turn() -> None:
    """One link after the other breaks for 700 ms: a quorum always remains, and so does progress."""
    c = Cluster()
    names = c.names
    for round_ in range(3):
        for index in range(3):
            c.cut(names[index], names[(index + 1) % 3])
            c.order(f"laptop {round_} {index}").expect_reply()
            c.run_for(70)
            c.heal()
    c.expect_same_state()


# --- Clients ------------------------------------------------------------------------------------------


def test_client_locked_in_with_a_deposed_primary_is_told_nothing_wrong() -> None:
    """G1: its order is not acknowledged, and its read is not answered, while the others go on."""
    c = Cluster()
    a, b, other = c.names
    c.order("laptop-1").expect_reply()
    c.isolate(a)
    order = c.order("laptop locked in", customer=5, via=a)
    read = c.read(via=a)
    c.await_primary(b, other)
    c.order("laptop-2", customer=6).expect_reply()
    order.expect_no_reply(200)
    assert not read.is_answered
    c.heal()
    c.expect_same_state()


def test_clients_cut_from_the_primary_wait_and_move_nobody() -> None:
    """Clients that cannot reach the primary are no reason to depose it; they go on when they can."""
    c = Cluster()
    a = c.names[0]
    c.order("laptop-1").expect_reply()
    c.cut_clients(a)
    before = c.view_changes
    answer = c.order("laptop-2").expect_no_reply(500)
    assert c.view_changes == before
    c.heal()
    answer.expect_reply()
    c.expect_same_state()


def test_all_replicas_apart_and_together_again() -> None:
    """Nobody reaches anybody for long; afterwards one view change is enough."""
    c = Cluster(replicas=5)
    c.order("laptop-1").expect_reply()
    c.isolate(*c.names)
    answer = c.order("laptop-2").expect_no_reply(1000)
    c.heal()
    answer.expect_reply()
    assert answer.ticks < 1000 + 400
    c.expect_same_state()
