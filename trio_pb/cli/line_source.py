"""Lines of a file or of standard input, read in a thread and in chunks, with bounded memory."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from types import TracebackType

import trio

from trio_pb.cli.order_lines import LINE_SIZE_MAX
from trio_pb.errors import ConfigError

__all__ = ["LineSource"]

CHUNK_SIZE = 64 * 1024
STANDARD_INPUT = 0  # Its descriptor.


class LineSource:
    """The lines of `path`, or of standard input if that is None."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        try:
            # Without a buffer: a thread that still waits for input when we are interrupted must not
            # hold a lock that the interpreter needs to exit.
            if path is None:
                self._file = open(STANDARD_INPUT, "rb", buffering=0, closefd=False)  # noqa: SIM115 -- closed by __exit__
            else:
                self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise ConfigError(f"{self.name}: {error.strerror}") from error
        self._lines: deque[bytes] = deque()
        self._rest = b""  # Of the last chunk: the start of a line.
        self._number = 0

    def __enter__(self) -> LineSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return "standard input" if self._path is None else str(self._path)

    @property
    def progress_path(self) -> Path | None:
        """The file that tells how far it was imported; standard input has none."""
        return None if self._path is None else self._path.with_name(self._path.name + ".progress")

    async def next_line(self) -> bytes:
        """The next line with its line end; b"" at the end.

        Raises:
            ConfigError: a line is far too long for an order.
        """
        while not self._lines:
            chunk = await trio.to_thread.run_sync(self._file.read, CHUNK_SIZE, abandon_on_cancel=True)
            if not chunk:
                last, self._rest = self._rest, b""
                return last
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._lines.extend(line + b"\n" for line in lines)
            if len(self._rest) > LINE_SIZE_MAX:
                raise ConfigError(
                    f"{self.name}: line {self._number + len(lines) + 1} is longer than {LINE_SIZE_MAX} bytes: "
                    "this is no file of orders"
                )
        self._number += 1
        return self._lines.popleft()

    async def rewind(self) -> None:
        """Begin at the first line again; standard input cannot."""
        assert self._path is not None
        self._file.seek(0)
        self._lines.clear()
        self._rest = b""
        self._number = 0

    async def count(self) -> int | None:
        """How many lines there are; None for standard input."""
        path = self._path
        if path is None or not path.is_file():
            return None

        def count() -> int:
            lines, last = 0, b"\n"
            with path.open("rb", buffering=0) as file:
                while chunk := file.read(1 << 20):
                    lines += chunk.count(b"\n")
                    last = chunk[-1:]
            return lines + (last != b"\n")

        return await trio.to_thread.run_sync(count)
