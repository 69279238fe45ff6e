"""What commands print: data to stdout, everything else to stderr, and the exit codes."""

from __future__ import annotations

import json
import sys
from enum import IntEnum

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

__all__ = ["ExitCode", "errors", "format_error", "new_table", "print_error", "print_json", "progress_bar", "screen"]


class ExitCode(IntEnum):
    """docs/reference/cli.md lists them; scripts depend on the numbers."""

    OK = 0
    FAILED = 1  # What was asked for was tried and is not so.
    USAGE = 2  # The command line, a file or a directory makes no sense; nothing was tried.
    UNAVAILABLE = 3  # No answer from the cluster in time.
    INTERRUPTED = 130  # Ctrl-C.


PLAIN_WIDTH = 200  # Columns of a table that goes into a file or a pipe: nothing is cut there.


def screen() -> Console:
    """The console for data."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def new_table(*columns: str) -> Table:
    """A table without a frame, so that it reads as plain lines where it is piped."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


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


def progress_bar(console: Console) -> Progress:
    """A bar with the count, a line of words and the time; it is shown only on a terminal."""
    return Progress(
        TextColumn("{task.description}", style="bold"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=False,
    )
