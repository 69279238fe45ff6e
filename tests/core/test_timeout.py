"""A timer fires once, at its deadline or after a pause of any length (PROTOCOL 6.1)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_pb.core.timeout import NEVER, Timeout


def test_a_timeout_that_was_never_started_never_fires() -> None:
    """No deadline, not due."""
    timeout = Timeout("test")
    assert timeout.deadline_tick == NEVER
    assert not timeout.is_due(NEVER)


def test_a_stopped_timeout_does_not_fire() -> None:
    """Stop takes the deadline away; a new start gives another."""
    timeout = Timeout("test")
    timeout.start(10, 5)
    timeout.stop()
    assert not timeout.is_due(100)
    assert timeout.deadline_tick == NEVER
    timeout.start(100, 7)
    assert timeout.deadline_tick == 107


def test_a_timeout_lies_in_the_future() -> None:
    """A timer of no ticks would fire for ever."""
    with pytest.raises(AssertionError, match="future"):
        Timeout("test").start(10, 0)


def test_time_does_not_run_back() -> None:
    """A clock that fell is our own defect, not an early timer."""
    timeout = Timeout("test")
    timeout.start(10, 5)
    with pytest.raises(AssertionError, match="ran back"):
        timeout.is_due(9)


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(0, 3000))
def test_due_exactly_from_the_deadline_on(start: int, after: int, later: int) -> None:
    """Due means: the deadline is now or was, never before."""
    timeout = Timeout("test")
    timeout.start(start, after)
    assert timeout.is_due(start + later) == (later >= after)
    assert timeout.deadline_tick == start + after
