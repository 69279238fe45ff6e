"""Who flushes, the loop or the thread: decided by times alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_pb.driver.flush_policy import (
    AVERAGE_JOBS,
    FAST_SECONDS,
    PARDON_JOBS,
    SLOW_SECONDS,
    STALL_SECONDS,
    TRIAL_JOBS,
    TRIALS_MAX,
    FlushPolicy,
)

FAST = FAST_SECONDS / 2
STALL = 2 * STALL_SECONDS


def note(policy: FlushPolicy, *seconds: float) -> FlushPolicy:
    """Let jobs of these times pass."""
    for one in seconds:
        policy.note(one)
    return policy


def inline_policy() -> FlushPolicy:
    """One that trusts its disk."""
    policy = note(FlushPolicy(), *[FAST] * TRIAL_JOBS)
    assert policy.is_inline
    return policy


def jobs_until_inline(policy: FlushPolicy) -> int:
    """Fast jobs that it takes."""
    count = 0
    while not policy.is_inline:
        policy.note(FAST)
        count += 1
    return count


def test_work_begins_in_the_thread_and_moves_after_a_trial() -> None:
    """Nothing is known of the disk at first."""
    assert jobs_until_inline(FlushPolicy()) == TRIAL_JOBS


def test_a_slow_disk_stays_in_the_thread() -> None:
    """However long it runs."""
    assert not note(FlushPolicy(), *[FAST_SECONDS * 1.1] * 10_000).is_inline


def test_a_fast_disk_on_a_busy_machine_is_recognised() -> None:
    """Any job may have had to wait for a processor; not all of them."""
    assert note(FlushPolicy(), *[*[3 * FAST_SECONDS] * (TRIAL_JOBS - 1), FAST]).is_inline


def test_a_disk_that_stalls_stays_in_the_thread() -> None:
    """Its fast jobs do not count when a stall was among them."""
    assert not note(FlushPolicy(), *[*[FAST] * (TRIAL_JOBS - 1), STALL] * 1000).is_inline


def test_one_long_stall_sends_work_back_at_once() -> None:
    """The loop waits for a stalled disk once."""
    assert not note(inline_policy(), 1.1 * SLOW_SECONDS * AVERAGE_JOBS).is_inline


def test_a_disk_that_became_slow_sends_work_back() -> None:
    """Also when no single job took very long."""
    assert not note(inline_policy(), *[SLOW_SECONDS * 1.5] * 3 * AVERAGE_JOBS).is_inline


def test_one_job_somewhat_slow_changes_nothing() -> None:
    """The average is what counts."""
    assert note(inline_policy(), *[FAST] * 8, SLOW_SECONDS * 5, *[FAST] * 8).is_inline


def test_the_trials_double_with_each_return_up_to_a_bound() -> None:
    """A disk that stalls again and again is trusted ever more seldom."""
    policy = FlushPolicy()
    expected = 1
    for _ in range(12):
        assert jobs_until_inline(policy) == expected * TRIAL_JOBS
        policy.note(STALL)
        assert not policy.is_inline
        expected = min(2 * expected, TRIALS_MAX)
    assert expected == TRIALS_MAX


def test_trials_must_be_passed_in_a_row() -> None:
    """After a return one bad trial starts the count anew."""
    policy = note(inline_policy(), STALL)
    note(policy, *[FAST] * TRIAL_JOBS, STALL)
    assert jobs_until_inline(policy) == 2 * TRIAL_JOBS


def test_a_long_time_without_trouble_is_a_pardon() -> None:
    """Old stalls are forgotten."""
    policy = FlushPolicy()
    for _ in range(3):
        jobs_until_inline(policy)
        policy.note(STALL)
    jobs_until_inline(policy)
    note(policy, *[FAST] * PARDON_JOBS, STALL)
    assert jobs_until_inline(policy) == 2 * TRIAL_JOBS


@given(st.lists(st.floats(0, 2)))
def test_the_loop_is_never_blocked_long_on_average(times: list[float]) -> None:
    """Whatever the disk does: while the loop is trusted with jobs, recent ones averaged below the bound."""
    policy = FlushPolicy()
    average = 0.0
    for seconds in [FAST] * TRIAL_JOBS + times:
        average = average + (seconds - average) / AVERAGE_JOBS if policy.is_inline else 0.0
        policy.note(seconds)
        assert not policy.is_inline or average <= SLOW_SECONDS
