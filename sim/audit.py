"""Is a run decided by its choices alone? The same seeds in several processes, event by event.

What could decide beside them differs between those processes: the order of sets of strings
(PYTHONHASHSEED) and the interpreter. Each is a child that runs this module; it prints a digest over all
events of each seed, and, asked about one seed, the events themselves.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from sim.choices import Choices
from sim.experiment import Experiment, experiment_named
from sim.explain.builder import StoryBuilder
from sim.network import Payload
from sim.telling import Parts, telling
from trio_pb.errors import ConfigError

if TYPE_CHECKING:
    from sim.cluster import SimCluster

__all__ = ["Child", "Difference", "Outcome", "audit"]

ROOT = Path(__file__).parent.parent  # Where both packages are, for interpreters that have not installed them.


@attrs.frozen
class Child:
    """One way to run: an interpreter and a hash seed."""

    python: str
    hash_seed: int

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Run this module in it."""
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONHASHSEED": str(self.hash_seed), "PYTHONPATH": path}
        command = [self.python, "-m", "sim.audit", *arguments]
        try:
            return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        except OSError as error:
            raise ConfigError(f"{self.python}: {error.strerror}") from error


@attrs.frozen
class Outcome:
    """What a child found."""

    child: Child
    version: str  # Of its interpreter.
    digests: tuple[str, ...]  # By seed.


@attrs.frozen
class Difference:
    """Where two children part: the first event in which a seed differs."""

    seed: int
    index: int  # Events that are equal.
    one: Child
    other: Child
    one_event: str | None  # None: there is no more.
    other_event: str | None


def audit(
    experiment: Experiment,
    first_seed: int,
    seeds: int,
    children: Sequence[Child],
    jobs: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[list[Outcome], Difference | None]:
    """Run seeds in each child and return what came of it, and the first difference if there is one.

    `progress` hears, from several threads, each time that a child has run a seed.

    Raises:
        ConfigError: an interpreter cannot run us.
    """
    with ThreadPoolExecutor(jobs) as pool:
        asked = [pool.submit(_ask, child, experiment, first_seed, seeds, progress) for child in children]
        outcomes = [future.result() for future in asked]
    one = outcomes[0]
    for at in range(seeds):
        for other in outcomes[1:]:
            if one.digests[at] != other.digests[at]:
                return outcomes, _difference(experiment, first_seed + at, one.child, other.child)
    return outcomes, None


def _ask(child: Child, experiment: Experiment, first_seed: int, seeds: int, progress: Callable[[int], None]) -> Outcome:
    """Let one child run all seeds."""
    process = child.start(experiment.name, str(first_seed), str(seeds))
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        lines: list[Any] = []  # What our own child prints.
        for line in process.stdout:
            lines.append(json.loads(line))
            if len(lines) > 1:
                progress(1)
        told = process.stderr.read()
    if process.returncode or len(lines) != 1 + seeds:
        last = (told.strip().splitlines() or ["it said nothing"])[-1]
        raise ConfigError(
            f"{child.python} cannot run simulations: {last}; it must be the Python of a virtual environment "
            "in which trio-pb or its requirements are installed"
        )
    return Outcome(child, lines[0], tuple(lines[1:]))


def _difference(experiment: Experiment, seed: int, one: Child, other: Child) -> Difference:
    with one.start(experiment.name, str(seed)) as first, other.start(experiment.name, str(seed)) as second:
        assert first.stdout is not None
        assert second.stdout is not None
        difference = Difference(seed, 0, one, other, None, None)
        for index, (event, another) in enumerate(zip_longest(first.stdout, second.stdout)):
            if event != another:
                difference = Difference(seed, index, one, other, _line(event), _line(another))
                break
        first.kill()
        second.kill()
    return difference


def _line(event: str | None) -> str | None:
    return None if event is None else event.rstrip("\n")


# --- In the child -----------------------------------------------------------------------------------


_Take: TypeAlias = Callable[[str], None]  # Takes an event as text.


class _Listener:
    """Hears every event of a run while it happens (`Teller`)."""

    def __init__(self, take: _Take) -> None:
        self.builder = StoryBuilder("audit")  # Worlds of other kinds tell it what happens.
        self._take = take

    def parts(self, cluster: SimCluster) -> Parts:
        """Only ears: the rest is what a cluster is made of anyway."""
        scheduler = cluster.scheduler

        def traced(event: Sequence[object]) -> None:
            self._take(repr((scheduler.now, *event)))

        def arrived(source: int, destination: int, payload: Payload) -> None:
            self._take(repr((scheduler.now, "arrives", source, destination, payload.message, payload.envelope)))

        return Parts(traced=traced, arrived=arrived)


def events_of(experiment: Experiment, seed: int, take: _Take) -> None:
    """Run a seed and hand out its events as text, the choices and the end last."""
    choices = Choices(seed)
    listener = _Listener(take)
    with telling(listener):
        report = experiment.run(choices)
    for told in listener.builder.events:
        take(repr(told))
    take(repr(sorted(choices.made.items(), key=repr)))
    end = "no failure" if report.failure is None else f"{report.failure.rule}: {report.failure.text}"
    take(f"{end} after {report.events} events; trace {report.trace_digest:08x}")


def digests_of(experiment: Experiment, first_seed: int, seeds: int) -> Iterator[str]:
    """A digest over all events of each seed."""
    for seed in range(first_seed, first_seed + seeds):
        hasher = blake2b(digest_size=16)
        events_of(experiment, seed, lambda text: hasher.update(text.encode()))  # noqa: B023 -- called here
        yield hasher.hexdigest()
        gc.collect()


def _main(name: str, first_seed: str, seeds: str = "") -> None:
    experiment = experiment_named(name)
    if not seeds:
        events_of(experiment, int(first_seed), print)
        return
    print(json.dumps(sys.version.split()[0]), flush=True)
    for digest in digests_of(experiment, int(first_seed), int(seeds)):
        print(json.dumps(digest), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
