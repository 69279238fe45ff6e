"""Quorum arithmetic: the table of PROTOCOL 2.5 and the intersections that safety rests on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_pb.core.quorum import VOTERS_MAX, Quorums, quorums_of
from trio_pb.errors import ConfigError

TABLE = {  # voters: replication, view change, nack, read, certify
    1: (1, 1, 1, 1, 1),
    2: (2, 2, 1, 1, 2),
    3: (2, 2, 2, 2, 2),
    4: (2, 3, 3, 2, 3),
    5: (3, 3, 3, 3, 3),
    6: (3, 4, 4, 3, 4),
    7: (4, 4, 4, 4, 4),
}


def any_two(voters: int, first: int, second: int) -> st.SearchStrategy[tuple[frozenset[int], frozenset[int]]]:
    """Any two sets of so many of the voters."""

    def of(size: int) -> st.SearchStrategy[frozenset[int]]:
        return st.frozensets(st.integers(0, voters - 1), min_size=size, max_size=size)

    return st.tuples(of(first), of(second))


@pytest.mark.parametrize("voters", sorted(TABLE))
def test_quorum_table(voters: int) -> None:
    """The whole supported set is the table of PROTOCOL 2.5."""
    replication, view_change, nack, read, certify = TABLE[voters]
    assert quorums_of(voters) == Quorums(
        voters=voters, replication=replication, view_change=view_change, nack=nack, read=read, certify=certify
    )


@pytest.mark.parametrize("voters", [-1, 0, VOTERS_MAX + 1])
def test_quorum_refuses_other_sizes(voters: int) -> None:
    """A cluster has one to seven voters."""
    with pytest.raises(ConfigError):
        quorums_of(voters)


@settings(deadline=None)
@given(st.data(), st.integers(1, VOTERS_MAX))
def test_r_quorum_any_two_sets_meet(data: st.DataObject, voters: int) -> None:
    """R-QUORUM: every view change meets every commit, every other view change and every read round."""
    q = quorums_of(voters)
    for size in (q.replication, q.view_change, q.read, q.certify):
        one, other = data.draw(any_two(voters, size, q.view_change))
        assert one & other


@settings(deadline=None)
@given(st.data(), st.integers(1, VOTERS_MAX))
def test_r_quorum_denials_and_a_commit_exclude_each_other(data: st.DataObject, voters: int) -> None:
    """A nack quorum of honest denials leaves too few voters for a commit, and no smaller number does."""
    q = quorums_of(voters)
    commit, denials = data.draw(any_two(voters, q.replication, q.nack))
    assert commit & denials, "somebody would have denied what it acknowledged"
    assert voters - (q.nack - 1) >= q.replication, "one denial fewer proves nothing"
