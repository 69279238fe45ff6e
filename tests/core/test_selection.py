"""Selecting the log of a new view (PROTOCOL 6.4, 6.6): the rules one by one, and the promise as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.bench import chain, statement
from tests.core.selection_model import Selection
from trio_pb.core.contradiction import ContradictionError
from trio_pb.core.messages import DoViewChange, EntryState
from trio_pb.core.prepare import Prepare, PrepareId
from trio_pb.core.quorum import quorums_of
from trio_pb.core.selection import Selected, Undecided, select

FAULT, NACK = EntryState.FAULT, EntryState.NACK


def choose(logs: Mapping[int, DoViewChange], *, voters: int = 3) -> Selected | Undecided:
    """Select among statements whose heads are those of their logs."""
    heads = {replica: message.head.op if message.head is not None else 0 for replica, message in logs.items()}
    return select(logs, heads, tuple(range(voters)), quorums_of(voters))


def selected(logs: Mapping[int, DoViewChange], *, voters: int = 3) -> Selected:
    """Select, and there is a decision."""
    chosen = choose(logs, voters=voters)
    assert isinstance(chosen, Selected), chosen
    return chosen


def ids(log: Sequence[Prepare]) -> tuple[bytes, ...]:
    """The checksums of a log."""
    return tuple(prepare.checksum for prepare in log)


def test_6_4_selection_log_view_before_length() -> None:
    """T-3: the newest log_view rules, however much longer an older log is."""
    old, new = chain(9, view=1024), chain(2, view=1025)
    chosen = selected({0: statement(old, log_view=1024), 1: statement(new, log_view=1025)})
    assert chosen.checksums == ids(new)


def test_6_4_selection_longest_of_the_newest() -> None:
    """Among logs of one log_view the longest tells what there is."""
    log = chain(4)
    chosen = selected({1: statement(log[:2], log_view=1024), 2: statement(log, log_view=1024)})
    assert chosen.head == 4


def test_6_4_selection_floor_from_anyone() -> None:
    """The highest commit point rules, even when only an older log knows it."""
    log = chain(3)
    logs = {0: statement(log[:2], log_view=1024, commit=2), 1: statement(log, log_view=1025, commit=1)}
    chosen = selected(logs)
    assert chosen.base == log[1].id
    assert chosen.checksums == ids(log[2:])


def test_6_4_selection_copies_win_over_nacks() -> None:
    """One copy keeps an op against denials of everybody else: no client's work is thrown away."""
    log = chain(1)
    logs = {replica: statement([], log_view=1024) for replica in range(4)}
    logs[4] = statement(log, log_view=1024)
    assert selected(logs, voters=5).checksums == ids(log)


def test_6_4_selection_copies_of_an_older_log_count() -> None:
    """The body may come from anybody who states this very identity."""
    log = chain(1)
    logs = {
        0: statement(log, log_view=1024),
        1: statement(log, log_view=1025, states={1: NACK}),
        2: statement(log, log_view=1025, states={1: NACK}),
    }
    chosen = selected(logs)
    assert chosen.checksums == ids(log)
    assert chosen.holders == {1: (0,)}


def test_6_4_selection_q_nack_truncates() -> None:
    """Enough denials prove that no replication quorum acknowledged: the log ends before that op."""
    log = chain(3)
    logs = {
        1: statement(log, log_view=1024, states={2: NACK}),
        2: statement(log[:1], log_view=1024),
    }
    chosen = selected(logs)
    assert chosen.checksums == ids(log[:1])
    assert chosen.truncated == 2


def test_6_4_selection_one_denial_too_few_waits() -> None:
    """With one denial less than the nack quorum an acknowledgement by the others is possible."""
    log = chain(1)
    logs = {
        1: statement(log, log_view=1024, states={1: NACK}),
        2: statement(log, log_view=1024, states={1: FAULT}),
    }
    assert choose(logs) == Undecided(1)
    logs[0] = statement([], log_view=1024)
    assert selected(logs).head == 0


def test_6_4_selection_fault_is_neither() -> None:
    """T-15: an acknowledged body that rotted is no copy and no denial."""
    log = chain(1)
    logs = {replica: statement(log, log_view=1024, states={1: FAULT}) for replica in range(3)}
    assert choose(logs) == Undecided(1)


def test_6_4_selection_out_of_the_listed_range_is_neither() -> None:
    """A head above an op that is not listed says nothing about that op."""
    log = chain(2)
    silent = DoViewChange(
        log_view=1024,
        head=log[1].id,
        commit=PrepareId(0, statement([], log_view=0).commit.checksum),
        entries=(),
        last_timestamp=0,
        checkpoint=statement([], log_view=0).checkpoint,
        certified=statement([], log_view=0).certified,
        wal_low=1,
        configuration=statement([], log_view=0).configuration,
        pending=None,
    )
    assert choose({0: silent, 1: silent, 2: silent}) == Undecided(1)


def test_6_4_selection_a_different_identity_denies() -> None:
    """Whoever holds another prepare at an op never acknowledged this one."""
    ours, theirs = chain(1, view=1024), chain(1, view=1025)
    logs = {
        0: statement(ours, log_view=1024, states={1: FAULT}),
        1: statement(theirs, log_view=1025, states={1: NACK}),
    }
    assert selected(logs).truncated == 1


def test_6_4_selection_standby_copies_count_its_denials_do_not() -> None:
    """Replicas without a vote may add a copy, never the denial that truncates."""
    log = chain(1)
    logs = {
        0: statement(log, log_view=1024, states={1: NACK}),
        1: statement(log, log_view=1024, states={1: FAULT}),
        3: statement([], log_view=1024),  # A standby.
    }
    assert choose(logs) == Undecided(1)
    logs[3] = statement(log, log_view=1024)
    assert selected(logs).holders == {1: (3,)}


def test_6_4_selection_nameless_is_no_copy() -> None:
    """A position without identity is no copy of anything."""
    log = chain(1)
    logs = {
        0: statement(log, log_view=1024, nameless=(1,)),
        1: statement(log, log_view=1024, states={1: FAULT}),
    }
    assert choose(logs) == Undecided(1)


def test_6_4_selection_last_timestamp_is_the_highest() -> None:
    """INV-17: timestamps go on from the highest that anybody knows of."""
    logs = {0: statement([], log_view=0, last_timestamp=5), 1: statement([], log_view=0, last_timestamp=9)}
    assert selected(logs).last_timestamp == 9


def test_6_4_selection_two_identities_in_one_log_view_are_a_contradiction() -> None:
    """INV-7: logs of one log_view are prefixes of one another, or a disk went back in time."""
    logs = {0: statement(chain(1, tag=b"a"), log_view=1024), 1: statement(chain(1, tag=b"b"), log_view=1024)}
    with pytest.raises(ContradictionError, match="two logs of view 1024"):
        choose(logs)


def test_6_4_selection_waits_where_the_newest_log_ends_below_the_commit_point() -> None:
    """A quorum of statements reaches what was committed, unless a disk went back in time: no guess."""
    logs = {0: statement(chain(2), log_view=1024, commit=2), 1: statement([], log_view=1025)}
    assert choose(logs) == Undecided(2)


EVENTS = ("order", "arrive", "replicate", "replicate", "learn", "rot", "rot", "new view", "new view", "install")


def some(voters: int, count: int, bits: int) -> list[int]:
    """Choose `count` of the voters: just quorums are where it gets tight."""
    return sorted(range(voters), key=lambda voter: (bits >> voter & 1, voter))[:count]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([3, 3, 4, 5, 6]),
    st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 5), st.integers(0, 63)), min_size=40, max_size=90),
)
def test_6_6_what_is_committed_is_never_truncated(voters: int, events: list[tuple[str, int, int]]) -> None:
    """For any statements that honest voters could send: every selection keeps every committed op."""
    model = Selection(voters)
    for event, who, bits in events:
        voter = who % voters
        if event == "order":
            for _ in range(1 + bits % 3):
                model.order(voter)
        elif event == "arrive":
            model.catch_up(voter)
        elif event == "replicate":
            group = some(voters, model.quorums.replication, bits)
            model.order(group[0])
            for one in group:
                model.catch_up(one)
                model.acknowledge(one)
        elif event == "learn":
            model.learn_commit(voter)
        elif event == "rot":
            for one in some(voters, 1 + who % 2, bits):
                model.rot(one, who % 3)
        elif event == "new view":
            group = some(voters, model.quorums.view_change + who % 2, bits)
            model.change_view(group[-1], group)
            for one in group:
                model.install(one, max(model.logs))
        else:
            model.install(voter, max(model.logs))
