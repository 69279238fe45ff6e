"""What commands print: data to stdout, everything else to stderr, and the exit codes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import IntEnum
from typing import Annotated, TypeAlias

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

__all__ = [
    "ExitCode",
    "Flag",
    "errors",
    "format_error",
    "new_table",
    "print_error",
    "print_json",
    "print_table",
    "progress_bar",
    "progress_words",
    "screen",
]


TABLE_WIDTH_MAX = 1000
_TRAILING_BLANKS = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$")
Flag: TypeAlias = Annotated[bool, Parameter(show_default=False)]  # Off unless given: help need not say so.


class ExitCode(IntEnum):
    """docs/reference/cli.md lists them; scripts depend on the numbers."""

    OK = 0
    FAILED = 1  # What was asked for was tried and is not so.
    USAGE = 2  # The command line, a file or a directory makes no sense; nothing was tried.
    UNAVAILABLE = 3  # No answer from the cluster in time.
    LOST = 4  # A replica would not start on this data directory.
    OTHERWISE = 5  # A recorded failure fails, but not as recorded.
    INTERRUPTED = 130  # Ctrl-C.


def screen() -> Console:
    """The console for data; a long line is the terminal's to wrap, so that it can be copied whole."""
    return Console(highlight=False, soft_wrap=True)


def new_table(*columns: str) -> Table:
    """A table without a frame, so that it reads as plain lines where it is piped."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def print_table(table: Table) -> None:
    """Print a table at the width that it needs: a terminal too narrow wraps lines, and nothing is cut."""
    console = screen()
    wide = console.options.update_width(TABLE_WIDTH_MAX)
    console.width = max(console.width, console.measure(table, options=wide).maximum)
    with console.capture() as capture:
        console.print(table)
    # Without the blanks that fill the last column, on a terminal before the end of a style.
    print("\n".join(_TRAILING_BLANKS.sub(r"\1", line) for line in capture.get().splitlines()))


def errors() -> Console:
    """The console for errors and progress."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Print one JSON object on one line: easy to pipe, easy to append to a log."""
    print(json.dumps(value, ensure_ascii=False))


def format_error(error: BaseException) -> str:
    """One clear line; the rest of a message of several lines follows it."""
    text = str(error) or type(error).__name__
    return f"trio-pb: {text}"


def print_error(error: BaseException) -> None:
    """Tell on stderr what went wrong."""
    print(format_error(error), file=sys.stderr)


def progress_bar(console: Console, bar_width: int = 40) -> Progress:
    """A bar with the count, a line of words and the time; it is shown only on a terminal."""
    return Progress(
        TextColumn("{task.description}", style="bold"),
        BarColumn(bar_width),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=False,
    )


@contextmanager
def progress_words(console: Console) -> Generator[Callable[[str], None], None, None]:
    """A line of words that changes, for work of unknown length; it is shown only on a terminal."""
    if not console.is_terminal:
        yield lambda _words: None
        return
    with console.status("") as status:
        yield status.update
