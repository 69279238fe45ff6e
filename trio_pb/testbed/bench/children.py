"""One phase of a benchmark as a process of its own, so that none finds the memory or the caches of another.

The process tells its progress and at last its figures over a pipe, and does not outlive whoever waits for it.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias, TypeVar, cast

from trio_pb.errors import TrioPbError

__all__ = ["BenchError", "Tell", "in_process"]

T = TypeVar("T")

SILENCE_SECONDS_MAX = 300.0  # Loading a million customers tells nothing for ten seconds.
END_SECONDS_MAX = 10.0

Tell: TypeAlias = Callable[[int, int], None]  # Done, of so many.


class BenchError(TrioPbError):
    """A phase of a benchmark failed or hung; there are no figures."""

    code = "bench"


def in_process(phase: Callable[..., T], tell: Tell, *arguments: object) -> T:
    """Run `phase(tell, *arguments)` in a new process and return its result; the phase is a function of a module.

    Raises:
        BenchError: it failed, died, or told nothing for so long that it must hang.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    name = phase.__name__.strip("_")
    process = context.Process(target=_run, args=(theirs, phase, arguments), name=f"bench {name}", daemon=True)
    process.start()
    theirs.close()
    try:
        while ours.poll(SILENCE_SECONDS_MAX):
            kind, value = ours.recv()
            if kind == "done":
                process.join(END_SECONDS_MAX)
                return cast("T", value)
            if kind == "failed":
                raise BenchError(f"{name}: {value}")
            tell(*value)
        raise BenchError(f"{name}: told nothing for {SILENCE_SECONDS_MAX:.0f} s; it was ended")
    except EOFError as error:
        process.join(END_SECONDS_MAX)
        raise BenchError(f"{name}: its process died, exit code {process.exitcode}") from error
    finally:
        ours.close()
        process.kill()
        process.join()


class Sender(Protocol):
    """Our end of the pipe."""

    def send(self, obj: object, /) -> None:
        """Send a message."""
        ...


def _run(pipe: Sender, phase: Callable[..., object], arguments: tuple[object, ...]) -> None:
    # Ctrl-C is for whoever waits for us, who ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = phase(partial(_tell, pipe), *arguments)
    except BaseException as error:
        pipe.send(("failed", _words(error)))
        raise
    pipe.send(("done", result))


def _tell(pipe: Sender, done: int, total: int) -> None:
    pipe.send(("told", (done, total)))


def _words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return f"{type(error).__name__}: {error}"
