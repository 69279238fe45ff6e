"""All harnesses, a few at a time: a line for each when it is done, and what it found."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os.path import relpath
from pathlib import Path

import attrs

__all__ = ["Outcome", "run", "tell"]

LINES = 25  # Of the end of a log, told of a harness that found something.

_PROGRESS = re.compile(r"cov: (\d+) ft: (\d+)")
_EXECUTIONS = re.compile(r"stat::number_of_executed_units: +(\d+)")
_NEW = re.compile(r"stat::new_units_added: +(\d+)")
_INPUT = re.compile(r"Test unit written to (\S+)")


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of one harness."""

    name: str
    exit_code: int
    executions: int
    coverage: int  # Edges of instrumented code, as libFuzzer counts them,
    features: int  # and how often each was taken, and with what compared.
    new_inputs: int
    log: str

    @property
    def failed_input(self) -> str | None:
        """The file with the input that failed."""
        found = _INPUT.findall(self.log)
        return found[-1] if found else None


def run(names: Sequence[str], seconds: int, jobs: int, found: Path) -> int:
    """Fuzz each harness in a process of its own; return 0 when none of them found anything."""
    found.mkdir(parents=True, exist_ok=True)
    total = -(-len(names) // jobs) * seconds
    print(f"{len(names)} harnesses, {seconds} s each, {jobs} at a time: {total // 60 + 1} minutes or so", flush=True)
    print(f"{'harness':<12} {'executions':>12} {'coverage':>9} {'features':>9} {'new inputs':>11}", flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        outcomes = [pool.submit(_run_one, name, seconds, found) for name in names]
        try:
            failed = [outcome.result() for outcome in outcomes if outcome.result().exit_code != 0]
        except KeyboardInterrupt:  # Which the running ones get as well.
            pool.shutdown(cancel_futures=True)
            return 130
    for outcome in failed:
        print(f"\n{outcome.name} found something:\n")
        print("\n".join(outcome.log.splitlines()[-LINES:]))
        if outcome.failed_input is not None:
            print(f"\nagain: python -m tests.fuzz {outcome.name} --replay {relpath(outcome.failed_input)}")
    print(f"\n{len(failed)} of {len(names)} harnesses found something; logs and new inputs: {relpath(found)}")
    return 1 if failed else 0


def _run_one(name: str, seconds: int, found: Path) -> Outcome:
    path = found / f"{name}.log"
    with path.open("w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(seconds)]
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    outcome = read_log(name, done.returncode, path.read_text(encoding="utf-8", errors="replace"))
    print(tell(outcome), flush=True)
    return outcome


def read_log(name: str, exit_code: int, log: str) -> Outcome:
    """Take the figures from what libFuzzer printed."""
    progress = _PROGRESS.findall(log)
    coverage, features = progress[-1] if progress else ("0", "0")
    executions, new_inputs = (next(iter(wanted.findall(log)), "0") for wanted in (_EXECUTIONS, _NEW))
    return Outcome(
        name=name,
        exit_code=exit_code,
        executions=int(executions),
        coverage=int(coverage),
        features=int(features),
        new_inputs=int(new_inputs),
        log=log,
    )


def tell(outcome: Outcome) -> str:
    """One line of the table."""
    figures = f"{outcome.executions:>12,} {outcome.coverage:>9,} {outcome.features:>9,} {outcome.new_inputs:>11,}"
    return f"{outcome.name:<12} {figures}{'' if outcome.exit_code == 0 else '  FOUND SOMETHING'}"
