"""The command `trio-pb`: finds the command, runs it, turns its end into an exit code."""

from __future__ import annotations

import logging
import sys
from typing import NoReturn, cast

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter

from trio_pb import __version__
from trio_pb.cli.output import ExitCode, print_error
from trio_pb.core.config import refuse_optimised_python
from trio_pb.errors import (
    ConfigError,
    DataDirectoryError,
    LocalProtocolError,
    NotAppliedError,
    NotSentError,
    ReplicaStoppedError,
    TrioPbError,
    UnknownOutcomeError,
)

__all__ = ["app", "call", "run"]

NEVER_AGAIN = frozenset({"identity_refused", "unrecoverable"})  # Reasons why a directory is of no use any more.

app = App(
    name="trio-pb",
    help="Laptop orders that survive the death of their primary.",
    version=__version__,
    backend="trio",
    result_action="return_value",
    help_format="markdown",  # Our docstrings are wrapped for readers of the source.
    default_parameter=Parameter(negative=()),  # Nobody needs --no-json.
)
# By name, so that a command imports only what it needs; each explains itself in its docstring.
app.command("trio_pb.cli.bench:app", name="bench")
app.command("trio_pb.cli.checkpoint_tools:app", name="checkpoint")
app.command("trio_pb.cli.corrupt:corrupt", name="corrupt")
app.command("trio_pb.cli.demo:demo", name="demo")
app.command("trio_pb.cli.replica:format_command", name="format")
app.command("trio_pb.cli.lab:app", name="lab")
app.command("trio_pb.cli.log_tools:app", name="log")
app.command("trio_pb.cli.order:app", name="order")
app.command("trio_pb.cli.simulation:app", name="sim")
app.command("trio_pb.cli.replica:start", name="start")
app.command("trio_pb.cli.replica:status", name="status")
app.command("trio_pb.cli.torture:torture", name="torture")
app.command("trio_pb.cli.replica:version", name="version")


def run() -> NoReturn:
    """Run the command line of this process and exit."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str]) -> int:
    """Run one command and return its exit code; expected errors are one line on stderr."""
    if not any(word for word in arguments if not word.startswith("-")) or "--help" in arguments or "-h" in arguments:
        _load_commands(app)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        refuse_optimised_python()
        result: object = app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        print(f"trio-pb: {_usage_text(error)}", file=sys.stderr)
        return ExitCode.USAGE
    except BrokenPipeError:
        # Whoever read our output has seen enough; flushing what is left must not complain at exit.
        sys.stdout = None
        return ExitCode.OK
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except (TrioPbError, OSError) as error:
        return _failed(error)
    except BaseExceptionGroup as group:
        # Trio reports what several tasks raised as one; of expected errors the first tells enough.
        expected, rest = group.split((TrioPbError, OSError, KeyboardInterrupt))
        if rest is not None or expected is None:
            raise
        return _failed(_first(expected))
    return result if isinstance(result, int) else ExitCode.OK


def _load_commands(group: App) -> None:
    """Import all commands, so that a list of them can say what each does."""
    for name in group:
        if not name.startswith("-"):
            _load_commands(group[name])


def _usage_text(error: CycloptsError) -> str:
    """What was wrong with the words of a command line, and where help is."""
    command = " ".join(["trio-pb", *(error.command_chain or ())])
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return f"{error.argument.name} is missing; see {command} --help"
    return f"{str(error).rstrip('.?')}; see {command} --help"


def _failed(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    print_error(error)
    if isinstance(error, (ConfigError, DataDirectoryError, LocalProtocolError)):
        return ExitCode.USAGE
    if isinstance(error, ReplicaStoppedError) and error.reason in NEVER_AGAIN:
        return ExitCode.LOST
    if isinstance(error, (NotSentError, UnknownOutcomeError)):
        return ExitCode.UNAVAILABLE
    if isinstance(error, NotAppliedError) and error.reason in ("busy", "deadline"):
        return ExitCode.UNAVAILABLE  # A read that nobody answered.
    return ExitCode.FAILED


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in a tree of groups; Ctrl-C before all others."""
    error: BaseException = group.subgroup(KeyboardInterrupt) or group
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error
