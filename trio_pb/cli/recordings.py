"""`trio-pb sim replay` and `trio-pb sim shrink`: recorded failures, run again and made small."""

from __future__ import annotations

import os
from pathlib import Path

from sim.recording import SUFFIX, Recording, read
from sim.run import Failure, RunReport
from sim.shrink import Progress, Shrunk, shrink
from trio_pb import __version__
from trio_pb.cli.output import ExitCode, Flag, errors, print_json, progress_words
from trio_pb.cli.sweep_report import replay_line
from trio_pb.errors import ConfigError

__all__ = ["replay", "shrink_command"]

BUDGET_S = 60.0


def replay(file: Path, /, *, json: Flag = False) -> int:
    """Run a recorded failure again.

    Exit code 1 if it fails as recorded, 0 if it does not fail any more, 5 if it fails otherwise.

    Args:
        file: What `trio-pb sim run` or `trio-pb sim shrink` wrote.
        json: Print one JSON object.
    """
    recording = read(file)
    report, choices = recording.run()
    failure = report.failure
    result = _compare(recording, failure)
    is_same_run = recording.is_exactly(report)
    unused = len(recording.choices) - len(choices.made)
    if json:
        print_json(
            {
                "result": result,
                "is_same_run": is_same_run,
                "rule": failure.rule if failure is not None else None,
                "text": failure.text if failure is not None else None,
                "where": failure.where if failure is not None else None,
                "events": report.events,
                "choices": len(recording.choices),
                "choices_unused": unused,
            }
        )
        return _exit_code(recording, result)
    print(f"{recording.experiment.name}, seed {recording.seed}, {_choices(len(recording.choices))}")
    if failure is not None:
        print(failure.story)
    print(_verdict(recording, failure, result))
    if is_same_run:
        print("It is the recorded run, event by event.")
    else:
        print(_drift(recording, report, unused))
    return _exit_code(recording, result)


def _compare(recording: Recording, failure: Failure | None) -> str:
    """What came of it, in one word for scripts."""
    if failure is None:
        return "clean"
    if recording.failure is None or not failure.is_like(recording.failure):
        return "fails otherwise"
    return "fails as recorded"


def _exit_code(recording: Recording, result: str) -> int:
    if result == "clean":
        return ExitCode.OK
    return ExitCode.FAILED if result == "fails as recorded" else ExitCode.OTHERWISE


def _verdict(recording: Recording, failure: Failure | None, result: str) -> str:
    if failure is None:
        was = recording.failure
        return "It does not fail." if was is None else f"It does NOT fail any more; recorded was {was.rule}: {was.text}"
    told = f"{failure.rule}: {failure.text}\n  at {failure.where}"
    if result == "fails as recorded":
        return f"FAILED as recorded: {told}"
    was = recording.failure
    recorded = "no failure" if was is None else f"{was.rule}: {was.text}\n  at {was.where}"
    return f"FAILED, but not as recorded: {told}\nrecorded: {recorded}"


def _drift(recording: Recording, report: RunReport, unused: int) -> str:
    """In how far it is not the run that was recorded."""
    by = (
        "the same version"
        if recording.version == __version__
        else f"version {recording.version}, this is {__version__}"
    )
    told = f"Not the recorded run in every detail ({report.events} events, recorded {recording.events} by {by})"
    return f"{told}; {unused} of its choices did not come up." if unused > 0 else f"{told}."


def _choices(count: int) -> str:
    return "1 choice" if count == 1 else f"{count} choices"


def shrink_command(
    file: Path, /, *, out: Path | None = None, jobs: int | None = None, budget_s: float = BUDGET_S, json: Flag = False
) -> int:
    """Make a recorded failure small enough to read.

    Leaves out kinds of faults, then single ones, and lowers sizes and values, as long as the same rule is
    broken in the same place. Ctrl-C ends the search as well: the best so far is written.

    Args:
        file: What `trio-pb sim run` wrote.
        out: Where to write the smaller recording. By default beside FILE, as NAME.shrunk.choices.
        jobs: Processes to try in. By default one per core.
        budget_s: Seconds after which the best so far is taken.
        json: Print one JSON object.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs {jobs}: must be at least 1")
    if budget_s <= 0:
        raise ConfigError(f"--budget-s {budget_s:g}: must be above 0")
    recording = read(file)
    target = out if out is not None else _beside(file)
    with progress_words(errors()) as say:

        def show(progress: Progress) -> None:
            say(
                f"{_choices(progress.choices)}, {progress.events} events; {progress.step}: "
                f"{progress.tried} runs in {progress.seconds:.0f} of {budget_s:g} s"
            )

        shrunk = shrink(recording, jobs=jobs or os.cpu_count() or 1, budget_s=budget_s, progress=show)
    shrunk.recording.write(target)
    if json:
        print_json(_fields(shrunk, target))
    else:
        _print(shrunk, target)
    return ExitCode.OK


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name.removesuffix(SUFFIX)}.shrunk{SUFFIX}")


def _fields(shrunk: Shrunk, target: Path) -> dict[str, object]:
    return {
        "file": str(target),
        "choices_before": shrunk.choices_before,
        "choices": len(shrunk.recording.choices),
        "events_before": shrunk.events_before,
        "events": shrunk.recording.events,
        "runs": shrunk.tried,
        "seconds": round(shrunk.seconds, 3),
        "is_complete": shrunk.is_complete,
        "replay": replay_line(target),
    }


def _print(shrunk: Shrunk, target: Path) -> None:
    small = shrunk.recording
    print(small.text())
    end = "Nothing more can be left out" if shrunk.is_complete else "The search was cut short"
    print(
        f"{end}: {_choices(len(small.choices))} instead of {shrunk.choices_before}, "
        f"{small.events} events instead of {shrunk.events_before} ({shrunk.tried} runs, {shrunk.seconds:.1f} s)."
    )
    print(f"replay: {replay_line(target)}")
