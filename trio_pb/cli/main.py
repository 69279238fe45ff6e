"""The command `trio-pb`: finds the command, runs it, turns its end into an exit code."""

from __future__ import annotations

import logging
import sys
from typing import NoReturn, cast

from cyclopts import App, CycloptsError

from trio_pb import __version__
from trio_pb.cli.output import ExitCode, print_error
from trio_pb.core.config import refuse_optimised_python
from trio_pb.errors import (
    ConfigError,
    DataDirectoryError,
    LocalProtocolError,
    NotAppliedError,
    NotSentError,
    TrioPbError,
    UnknownOutcomeError,
)

__all__ = ["app", "call", "run"]

app = App(
    name="trio-pb",
    help="Replicated laptop orders on Trio, by Viewstamped Replication.",
    version=__version__,
    backend="trio",
    result_action="return_value",
    help_format="plaintext",
)
# By name, so that a command imports only what it needs.
app.command("trio_pb.cli.demo:demo", name="demo", help="Show a cluster surviving the death of its primary.")
app.command("trio_pb.cli.order:app", name="order", help="Place, read, scan and import laptop orders.")
app.command("trio_pb.cli.replica:format_command", name="format", help="Make the data directory of a new replica.")
app.command("trio_pb.cli.replica:start", name="start", help="Run a replica until SIGTERM or Ctrl-C.")
app.command("trio_pb.cli.replica:status", name="status", help="Show where each replica stands.")
app.command("trio_pb.cli.lab:app", name="lab", help="The classic course assignment's server and client.")
app.command("trio_pb.cli.simulation:app", name="sim", help="Run clusters in simulation, each from a seed.")
app.command("trio_pb.cli.replica:version", name="version", help="Show the versions of program, wire and data.")


def run() -> NoReturn:
    """Run the command line of this process and exit."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str]) -> int:
    """Run one command and return its exit code; expected errors are one line on stderr."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        refuse_optimised_python()
        result: object = app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        print_error(error)
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


def _failed(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    print_error(error)
    if isinstance(error, (ConfigError, DataDirectoryError, LocalProtocolError)):
        return ExitCode.USAGE
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
