"""What ends a process from outside: signals, and the end of whoever started it.

The first signal asks for a graceful stop, the second ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import trio

__all__ = ["end_of_input", "stop_on_signals"]


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


async def end_of_input() -> None:
    """Return when nobody holds the other end of our standard input any more."""
    while True:
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        if not os.read(sys.stdin.fileno(), 4096):
            return
