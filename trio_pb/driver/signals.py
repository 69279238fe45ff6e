"""Operating system signals: the first asks for a graceful stop, the second ends at once."""

from __future__ import annotations

import signal
from collections.abc import Callable

import trio

__all__ = ["stop_on_signals"]


async def stop_on_signals(
    stop: Callable[[], None],
    abort: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `stop` at the first SIGTERM or SIGINT and `abort` at the second; works in the main thread only."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        act = stop
        async for _number in signals:
            act()
            act = abort
