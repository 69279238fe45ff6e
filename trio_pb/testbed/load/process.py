"""Processes that make a load: each connects, says "ready", waits for a line, and says what it saw in one line of JSON.

It stays until its input ends, so that what it took can be read.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_pb.errors import TrioPbError

__all__ = ["LoadError", "LoadProcess", "load_processes"]

READY_SECONDS_MAX = 60.0


class LoadError(TrioPbError):
    """A process that makes a load failed or hung; there are no figures."""

    code = "load"


class LoadProcess:
    """One of them."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._read = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def say(self, line: bytes) -> None:
        """Give it a line.

        Raises:
            LoadError: it ended.
        """
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(line)
        except trio.BrokenResourceError:
            raise await self._ended() from None

    async def hear(self, seconds_max: float) -> str:
        """The next line that it says.

        Raises:
            LoadError: it ended, or says nothing.
        """
        assert self._process.stdout is not None
        with trio.move_on_after(seconds_max):
            while b"\n" not in self._read:
                chunk = await self._process.stdout.receive_some()
                if not chunk:
                    raise await self._ended()
                self._read += chunk
            line, _, self._read = self._read.partition(b"\n")
            return line.decode()
        raise LoadError(f"a process that makes the load said nothing for {seconds_max:.0f} s")

    async def begin(self) -> None:
        """Now it is to make its load."""
        await self.say(b"go\n")

    async def result(self, seconds_max: float) -> Any:
        """What it saw.

        Raises:
            LoadError: it ended, or is not done in time.
        """
        return json.loads(await self.hear(seconds_max))

    async def _ended(self) -> LoadError:
        return LoadError(f"a process that makes the load ended with exit code {await self._process.wait()}")


@asynccontextmanager
async def load_processes(command: Sequence[str], first_lines: Sequence[bytes]) -> AsyncGenerator[list[LoadProcess]]:
    """A process for each first line, which may be empty; all of them connected and ready. None is left.

    Raises:
        LoadError: one does not get ready; what it says about that goes to our standard error.
    """
    running: list[trio.Process] = []
    try:
        found: list[LoadProcess] = []
        for line in first_lines:
            process = await trio.lowlevel.open_process(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
            running.append(process)
            found.append(LoadProcess(process))
            await found[-1].say(line)
        for it in found:
            await it.hear(READY_SECONDS_MAX)
        yield found
    finally:
        with trio.CancelScope(shield=True):
            for process in running:
                if process.poll() is None:
                    process.kill()
                await process.wait()
                assert process.stdin is not None
                assert process.stdout is not None
                await process.stdin.aclose()
                await process.stdout.aclose()
