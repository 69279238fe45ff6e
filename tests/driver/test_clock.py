"""Ticks and the alarm, on Trio's mock clock."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_pb.driver.clock import Alarm, Clock


async def test_sleeping_until_a_tick_reads_as_that_tick(autojump_clock: MockClock) -> None:
    """No float error makes a deadline look one tick early, wherever the clock started."""
    await trio.sleep(1234.567)
    clock = Clock()
    for tick in (1, 3, 7, 29, 57, 58, 115, 1001, 100_003):
        await trio.sleep_until(clock.time_of(tick))
        assert clock.now_tick() == tick
    assert clock.wall_ns() > 0


async def test_a_tick_is_ten_milliseconds(autojump_clock: MockClock) -> None:
    """Just before its time a tick has not come."""
    clock = Clock()
    await trio.sleep(0.0299)
    assert clock.now_tick() == 2


async def test_the_alarm_rings_once_at_the_last_deadline_set(autojump_clock: MockClock) -> None:
    """A deadline may move both ways; after a ring the alarm is silent until set again."""
    alarm = Alarm()
    rings: list[float] = []
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarm.run, lambda: rings.append(trio.current_time() - start))
        await wait_all_tasks_blocked()
        alarm.set(start + 5)
        await trio.sleep(1)
        alarm.set(start + 3)
        await trio.sleep(1)
        alarm.set(start + 4)
        await trio.sleep(10)
        assert rings == [4.0]
        alarm.set(start + 20)
        await trio.sleep(10)
        assert rings == [4.0, 20.0]
        nursery.cancel_scope.cancel()


async def test_an_alarm_set_before_it_runs_rings(autojump_clock: MockClock) -> None:
    """The first deadline comes from the first turn, before the alarm's task runs."""
    alarm = Alarm()
    rang = trio.Event()
    alarm.set(trio.current_time() + 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarm.run, rang.set)
        await rang.wait()
        nursery.cancel_scope.cancel()
