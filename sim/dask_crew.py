"""A crew of other machines: the workers of a Dask cluster, for `trio-pb sim run --cluster tcp://...`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, Protocol, cast

import attrs

from sim.code_digest import code_digest
from sim.crews import Block, Crew, Done, run_block
from trio_pb.errors import ConfigError, TrioPbError

__all__ = ["FarmError", "dask_crew"]

CONNECT_SECONDS = 10
BLOCKS_PER_WORKER = 3  # Given out ahead, so that nobody waits for us.


class FarmError(TrioPbError):
    """A cluster of workers broke down, or one of them cannot be believed; what was found before is kept."""

    code = "farm"


class _Future(Protocol):
    """The part of `distributed.Future` that is used here."""

    def result(self) -> Done: ...

    def cancel(self) -> None: ...


class _Client(Protocol):
    """The part of `distributed.Client` that is used here; the package has no types."""

    def submit(self, function: Callable[[Block], Done], block: Block, *, pure: bool) -> _Future: ...

    def run(self, function: Callable[[], int], *, on_error: str) -> dict[str, object]: ...

    def nthreads(self) -> dict[str, int]: ...


@contextmanager
def dask_crew(address: str) -> Generator[Crew]:
    """Connect to the scheduler at `address`, and be the crew of its workers.

    Workers that come later get seeds as well, and the seeds of one that dies are run by another.

    Raises:
        ConfigError: the extra is not installed, nobody answers, or the workers are none that can be used.
    """
    try:
        import distributed  # An extra: most have one machine.
    except ImportError as error:
        raise ConfigError(
            f"--cluster {address}: Dask is not installed; install it with: pip install 'trio-pb[farm]'"
        ) from error
    package: Any = distributed
    try:
        connected = package.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:  # A malformed address, nobody there, or no answer in time.
        raise ConfigError(
            f"--cluster {address}: no Dask scheduler answers there; `dask scheduler` starts one and says its address"
        ) from error
    with connected:
        client = cast("_Client", connected)
        _check_workers(address, client)
        # A worker that dies again and again takes its seeds with it; a scheduler that is gone, everything.
        broken = (package.client.FutureCancelledError, package.scheduler.KilledWorker, OSError)
        yield _Workers(client, len(client.nthreads()), broken)


def _check_workers(address: str, client: _Client) -> None:
    threads = client.nthreads()
    if not threads:
        raise ConfigError(
            f"--cluster {address}: it has no workers; start some, one for each core:"
            f" dask worker {address} --nworkers=-1 --nthreads=1"
        )
    for worker, count in sorted(threads.items()):
        if count != 1:
            raise ConfigError(
                f"--cluster {address}: worker {worker} has {count} threads, and two runs in one process would get in"
                " each other's way; start it with --nthreads=1"
            )
    ours = code_digest()
    for worker, theirs in sorted(client.run(code_digest, on_error="return").items()):
        if isinstance(theirs, Exception):
            raise ConfigError(f"--cluster {address}: worker {worker} has no trio-pb that it can use: {theirs}")
        if theirs != ours:
            raise ConfigError(
                f"--cluster {address}: worker {worker} has other code than this process, and other code is another"
                " simulation; install the same there, and start the worker again"
            )


@attrs.frozen
class _Workers:
    _client: _Client
    size: int
    _broken: tuple[type[Exception], ...]

    def run(self, blocks: Sequence[Block]) -> Generator[Done]:
        """Run them, a few ahead of what is waited for.

        Raises:
            FarmError: the cluster broke down, or a worker that came later has other code.
        """
        ours = code_digest()
        left = iter(blocks)
        given: deque[_Future] = deque()
        try:
            while done := self._next(left, given):
                if done.code != ours:
                    raise FarmError("a worker that joined has other code than this process; install the same there")
                yield done
        finally:
            with suppress(*self._broken):
                for future in given:
                    future.cancel()

    def _next(self, left: Iterator[Block], given: deque[_Future]) -> Done | None:
        """Give out what there are workers for, and wait for the oldest; None when nothing is left."""
        try:
            ahead = BLOCKS_PER_WORKER * max(1, len(self._client.nthreads()))
            given.extend(self._client.submit(run_block, it, pure=False) for it in islice(left, ahead - len(given)))
            return given.popleft().result() if given else None
        except self._broken as error:
            raise FarmError(f"the cluster of workers broke down: {error}") from error
