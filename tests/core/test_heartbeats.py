"""Heartbeats, and commit points by way of gossip (PROTOCOL 5.5)."""

from __future__ import annotations

import attrs

from tests.core.bench import Bench, chain, disk_of, primary
from trio_pb.core.messages import (
    Commit,
    DoViewChange,
    GetPrepares,
    GetStartView,
    Pong,
)


def test_5_5_heartbeat_every_t_hb() -> None:
    """The primary shows itself every five ticks, with head and commit point."""
    a = primary(log=chain(2), commit=1)
    a.clear()
    a.run(10)
    heartbeats = a.sent(Commit)
    assert len(heartbeats) == 2
    assert heartbeats[0].head_checksum == a.replica.state.log.head_checksum
    assert heartbeats[0].commit_checksum == a.checksum_at(1)


def test_5_5_timers_fire_once_after_a_pause() -> None:
    """However long a pause was, a timer fires once."""
    a = primary(timeouts=None)
    a.clear()
    a.tick(37)
    assert len(a.sent(Commit)) == 1


def test_5_5_a_backup_pulls_what_a_heartbeat_shows() -> None:
    """A head above ours is asked for."""
    b = Bench(disk_of(1))
    b.hear_heartbeat(chain(2)[1].id)
    assert b.sent(GetPrepares, to=0)[0].wanted == ((1, None), (2, None))


def test_5_5_a_heartbeat_of_another_log_asks_for_it() -> None:
    """Our log has another prepare at the primary's head: something is wrong with ours."""
    b = Bench(disk_of(1, log=chain(1)))
    b.hear_heartbeat(chain(1, tag=b"other")[0].id)
    assert b.counter("protocol_violations") == 1
    assert len(b.sent(GetStartView)) == 1


def test_r_gossip_takes_a_commit_point_that_our_log_holds() -> None:
    """Anybody's commit point may be taken if our log holds exactly the prepare it names."""
    log = chain(2)
    b = Bench(disk_of(1, log=log))
    b.hear(2, Pong(attrs.evolve(b.position(), commit_checksum=log[1].checksum)), commit=2, op=2)
    assert b.commit == 2


def test_r_gossip_ignores_another_prepare_and_what_it_does_not_hold() -> None:
    """A commit point above our head, or of another prepare there, or nameless, says nothing about our log."""
    log = chain(2)
    b = Bench(disk_of(1, log=log))
    above = chain(1, after=log[1])[0]
    for op, checksum in ((2, chain(2, tag=b"other")[1].checksum), (3, above.checksum), (2, None)):
        b.hear(2, Pong(attrs.evolve(b.position(), commit_checksum=checksum)), commit=op, op=op)
    assert b.commit == 0


def test_5_5_a_commit_point_above_our_head_is_remembered_by_name() -> None:
    """It is told on in a view change, though the log does not reach it."""
    log = chain(3)
    b = Bench(disk_of(1, log=log[:1]))
    b.hear_heartbeat(log[2].id, commit=3, commit_checksum=log[2].checksum)
    assert (b.commit, b.applied) == (3, 1)
    b.ping(2, view=1026)
    assert b.sent(DoViewChange)[-1].commit == log[2].id


def test_5_5_a_commit_point_that_our_log_contradicts_is_not_taken() -> None:
    """Rather stall than apply what the primary did not commit."""
    log = chain(2)
    b = Bench(disk_of(1, log=log))
    b.hear_heartbeat(log[1].id, commit=2, commit_checksum=chain(2, tag=b"other")[1].checksum)
    assert b.commit == 0
    assert b.counter("protocol_violations") == 1
