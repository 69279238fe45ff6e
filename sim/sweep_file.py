"""What a sweep has found so far, as a file: it is there while a long sweep runs, and after one that was cut short."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import attrs

from sim.code_digest import code_digest
from sim.experiment import Experiment, slug
from sim.farm import Cause, SweepReport
from sim.machines import MachineRuns
from sim.run import Failure
from trio_pb.core.marks import Mark

__all__ = ["SweepFile"]

FORMAT = 1
WRITE_EVERY_S = 10.0  # A sweep shorter than this leaves no file, unless it is interrupted.


class SweepFile:
    """The file of one sweep: of these seeds, of this experiment, under this code."""

    def __init__(self, folder: Path, experiment: Experiment, first_seed: int, seeds: int) -> None:
        self.path = folder / f"sweep-{slug(experiment)}-{first_seed}-{seeds}.json"
        # What somebody's machine rests on is not known here, so neither is whether it changed.
        self.is_resumable = not isinstance(experiment, MachineRuns)
        self._experiment = experiment
        self._what = {
            "format": FORMAT,
            "experiment": experiment.name,
            "first_seed": first_seed,
            "code": code_digest(),  # Results of other code say nothing about this one.
        }
        self._written = time.monotonic()

    def load(self) -> SweepReport | None:
        """What was found so far; None when nothing was, or by code that is, or may be, another."""
        if not self.is_resumable:
            return None
        try:
            fields: Any = json.loads(self.path.read_bytes())  # Ours, or taken for nothing.
            if any(fields[name] != value for name, value in self._what.items()):
                return None
            return _report(fields, self._experiment)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # It is a cache: whoever damages it has to run the seeds again.

    def note(self, report: SweepReport) -> None:
        """Write what was found so far, now and then."""
        if time.monotonic() - self._written >= WRITE_EVERY_S:
            self.save(report)

    def save(self, report: SweepReport) -> None:
        """Write what was found so far; the file is the old one or the new one, whenever the process dies."""
        self._written = time.monotonic()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({**self._what, **_fields(report)}), encoding="utf-8")
        os.replace(new, self.path)

    def remove(self) -> None:
        """The sweep is done."""
        self.path.unlink(missing_ok=True)


# Plain numbers of a report, which need no care.
_NUMBERS = ("seeds", "events", "steps", "virtual_us", "cpu_seconds", "wall_seconds")
_PER_RUN = ("committed", "crashes", "view_changes")  # A number for each run.


def _fields(report: SweepReport) -> dict[str, object]:
    return {
        **{name: getattr(report, name) for name in _NUMBERS},
        **{name: getattr(report, name) for name in _PER_RUN},
        "counts": report.counts,
        "marks": report.marks,
        "causes": {signature: attrs.asdict(cause) for signature, cause in report.causes.items()},
    }


def _report(fields: Any, experiment: Experiment) -> SweepReport:
    return SweepReport(
        fields["first_seed"],
        experiment,
        **{name: fields[name] for name in _NUMBERS},
        committed=list(fields["committed"]),
        crashes=list(fields["crashes"]),
        view_changes=list(fields["view_changes"]),
        counts=Counter(fields["counts"]),
        marks=Counter({Mark(mark): runs for mark, runs in fields["marks"].items()}),
        causes={
            signature: Cause(Failure(**cause["failure"]), cause["count"], cause["seeds"])
            for signature, cause in fields["causes"].items()
        },
    )
