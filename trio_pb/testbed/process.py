"""One replica as a process of its own: its command line, its signals, the end of its stderr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import trio

from trio_pb.errors import TrioPbError

__all__ = ["ReplicaProcess", "ReplicaProcessError", "replica_command"]

STDERR_TAIL_SIZE = 4096  # Bytes quoted in an error.
STOP_SECONDS_MAX = 15.0


class ReplicaProcessError(TrioPbError):
    """A replica process ended or hung when it should not have; the message has the end of its stderr."""

    code = "replica_process"


class ReplicaProcess:
    """A replica that can be started, killed and started again; at most one process at a time."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self.log = log  # Its stderr, all its lives one after the other.
        self._command = command
        self._process: trio.Process | None = None
        self._telling = trio.Lock()  # Several tasks may have something to tell.

    @property
    def running(self) -> bool:
        """Whether there is a process that has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start the process; it is up as soon as it answers, not when this returns."""
        assert not self.running, f"{self.name} runs already"
        # Its own process group: Ctrl-C at a terminal is for us, and we end it in our own order. Its
        # stdin is a pipe that only we hold: should we die without a chance to clean up, it sees the
        # end of it and stops by itself.
        with self.log.open("ab") as log:
            self._process = await trio.lowlevel.open_process(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    async def kill(self) -> None:
        """End it with SIGKILL, at once."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Ask it to stop with SIGTERM and return its exit code.

        Raises:
            ReplicaProcessError: it did not stop in time; it was killed.
        """
        with trio.move_on_after(STOP_SECONDS_MAX):
            return await self._end(signal.SIGTERM)
        await self.kill()
        raise ReplicaProcessError(f"{self.name} did not stop within {STOP_SECONDS_MAX:.0f} s of SIGTERM\n{self.tail()}")

    async def wait(self) -> int:
        """Wait until it ends by itself and return its exit code."""
        assert self._process is not None
        code = await self._process.wait()
        if self._process.stdin is not None:
            await self._process.stdin.aclose()
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal and wait for nothing: SIGSTOP freezes it, SIGCONT lets it go on."""
        os.kill(self.pid, number)

    async def tell(self, line: bytes) -> None:
        """Write to its standard input; nothing happens if it has ended."""
        async with self._telling:
            assert self._process is not None
            assert self._process.stdin is not None
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._process.stdin.send_all(line)

    def check(self) -> None:
        """Raise unless it runs.

        Raises:
            ReplicaProcessError: it has ended by itself.
        """
        if not self.running:
            code = None if self._process is None else self._process.returncode
            raise ReplicaProcessError(f"{self.name} ended with exit code {code}\n{self.tail()}")

    def tail(self) -> str:
        """The end of what it wrote to stderr."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - STDERR_TAIL_SIZE))
            return log.read().decode(errors="replace").strip()

    async def _end(self, number: signal.Signals) -> int:
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.send_signal(number)
        code = await process.wait()
        if process.stdin is not None:
            await process.stdin.aclose()
        return code


def replica_command(*arguments: str, module: str = "trio_pb") -> list[str]:
    """The command line of this very program, or another module of it, whatever environment it runs in."""
    return [sys.executable, "-m", module, *arguments]
