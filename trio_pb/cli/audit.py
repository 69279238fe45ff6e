"""`trio-pb sim audit`: proof that a simulated run depends on nothing but its seed."""

from __future__ import annotations

import os
import secrets
import shutil
import sys

from sim.audit import Child, Difference, Outcome, audit
from sim.experiment import Swarm
from sim.profiles import DEFAULT_PROFILE
from trio_pb.cli.output import ExitCode, Flag, errors, new_table, print_json, print_table, progress_bar
from trio_pb.cli.seeds import check_seeds
from trio_pb.errors import ConfigError

__all__ = ["audit_command"]

SEEDS = 20
WIDTH = 400  # Of an event that is shown.


def audit_command(
    *,
    seeds: int = SEEDS,
    first_seed: int = 1,
    profile: str = DEFAULT_PROFILE,
    python: tuple[str, ...] = (),
    jobs: int | None = None,
    json: Flag = False,
) -> int:
    """Compare the same seeds in several processes, event by event.

    Each interpreter runs them with two hash seeds, 0 and a random one. Exit code 1 if a run differs anywhere;
    the first event that does is shown.

    Args:
        seeds: How many to run.
        first_seed: The first of them; the others follow it.
        profile: What may happen in a run: all, network, storage, crash, clock, ambush, beyond, or calm.
        python: Another Python to compare with, of a virtual environment that has the requirements; can be
            given several times.
        jobs: Processes at once. By default one per core.
        json: Print one JSON object.
    """
    check_seeds(seeds, first_seed, jobs)
    for path in python:
        if shutil.which(path) is None:
            raise ConfigError(f"--python {path}: there is no such program")
    chance = 1 + secrets.randbelow(2**32 - 1)
    children = [Child(path, hash_seed) for path in (sys.executable, *python) for hash_seed in (0, chance)]
    with progress_bar(errors()) as bar:
        task = bar.add_task("runs", total=seeds * len(children), note="")
        outcomes, difference = audit(
            Swarm(profile), first_seed, seeds, children, jobs or os.cpu_count() or 1, lambda ran: bar.advance(task, ran)
        )
    if json:
        print_json(_fields(outcomes, first_seed, seeds, difference))
    else:
        _print(outcomes, first_seed, seeds, difference)
    return ExitCode.OK if difference is None else ExitCode.FAILED


def _fields(outcomes: list[Outcome], first_seed: int, seeds: int, difference: Difference | None) -> dict[str, object]:
    return {
        "first_seed": first_seed,
        "seeds": seeds,
        "interpreters": [
            {"python": it.child.python, "version": it.version, "hash_seed": it.child.hash_seed} for it in outcomes
        ],
        "difference": None
        if difference is None
        else {
            "seed": difference.seed,
            "index": difference.index,
            "hash_seeds": [difference.one.hash_seed, difference.other.hash_seed],
            "pythons": [difference.one.python, difference.other.python],
            "events": [difference.one_event, difference.other_event],
        },
    }


def _print(outcomes: list[Outcome], first_seed: int, seeds: int, difference: Difference | None) -> None:
    table = new_table("python", "hash seed", "interpreter")
    for outcome in outcomes:
        table.add_row(outcome.version, str(outcome.child.hash_seed), outcome.child.python)
    print_table(table)
    print()
    if difference is None:
        which = f"seed {first_seed}" if seeds == 1 else f"all {seeds} seeds, {first_seed} to {first_seed + seeds - 1},"
        print(f"Every event of {which} is the same in each of them.")
        return
    print(f"seed {difference.seed} DIFFERS, after {difference.index} equal events:")
    for child, event in ((difference.one, difference.one_event), (difference.other, difference.other_event)):
        print(f"  {child.python}, hash seed {child.hash_seed}:")
        print(f"    {'no more events' if event is None else event[:WIDTH]}")
