"""A run as a small file: what it was of, its seed, how it failed, and every choice that differs from its default.

    trio-pb choices 1
    version: 0.1.0
    experiment: swarm all
    seed: 4711
    trace: 5d1fa90c after 2149 events
    rule: INV-8
    where: replica.py:_on_completions < replica.py:_advance_job
    text: R1: storage reports work as durable that a power cut would undo

    crash, 0 = 1
    crash, 0, where = 2
    lose, Prepare, 0, 2, 17 = 1

One choice a line, sorted, so that two files can be compared by eye and by diff. A word stands as it is; what
could be read as something else is quoted as in JSON. Latencies are in no file: they follow from the seed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import attrs

from sim.choices import SEED_DIGITS_MAX, Choices, Key
from sim.experiment import Experiment, experiment_named
from sim.run import Failure, RunReport
from trio_pb.errors import ConfigError

__all__ = ["SUFFIX", "Recording", "parse", "read", "record"]

FORMAT = "trio-pb choices 1"
SUFFIX = ".choices"
SIZE_MAX = 16 << 20  # Of a file: far above any run's.

_WORD = re.compile(r"[A-Za-z_](?:[A-Za-z0-9_./ -]*[A-Za-z0-9_./-])?")
_NUMBER = re.compile(rf"-?(?:0|[1-9][0-9]{{0,{SEED_DIGITS_MAX - 1}}})")  # Nothing is longer than a seed.
_PART = re.compile(
    rf'(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<number>{_NUMBER.pattern}(?=,|$))|(?P<word>{_WORD.pattern}(?=,|$))'
)
_CHOICE = re.compile(rf"(?P<key>.+) = (?P<value>{_NUMBER.pattern})")
_TRACE = re.compile(r"(?P<digest>[0-9a-f]{8}) after (?P<events>[0-9]{1,18}) events")
HEADINGS = ("version", "experiment", "seed", "trace", "rule", "where", "text")
_CLEAN = ("version", "experiment", "seed", "trace")  # What the file of a run without a failure has.


@attrs.frozen(kw_only=True)
class Recording:
    """One run, to be run again."""

    version: str  # Of the program that recorded it.
    experiment: Experiment
    seed: int
    trace_digest: int  # Over every event: equal when the run is the same in every detail.
    events: int
    failure: Failure | None  # Without a story: running it again tells that.
    choices: Mapping[Key, int]

    def run(self) -> tuple[RunReport, Choices]:
        """Run it again; the choices say which of the recorded ones were still met."""
        choices = Choices(self.seed, self.choices)
        return self.experiment.run(choices), choices

    def is_exactly(self, report: RunReport) -> bool:
        """Whether a run was the recorded one, event by event."""
        return (report.trace_digest, report.events) == (self.trace_digest, self.events)

    def text(self) -> str:
        """The file."""
        lines = [
            FORMAT,
            f"version: {self.version}",
            f"experiment: {self.experiment.name}",
            f"seed: {self.seed}",
            f"trace: {self.trace_digest:08x} after {self.events} events",
        ]
        if self.failure is not None:
            first, *rest = self.failure.text.split("\n")
            lines += [f"rule: {self.failure.rule}", f"where: {self.failure.where}", f"text: {first}"]
            lines += [f"  {line}" for line in rest]
        lines.append("")
        lines += [f"{_spell(key)} = {value}" for key, value in sorted(self.choices.items(), key=_order)]
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> None:
        """Put the file at `path`, whose folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text(), encoding="utf-8")


def record(version: str, experiment: Experiment, seed: int, choices: Mapping[Key, int] | None = None) -> Recording:
    """Run a seed, or its choices, and return what was met."""
    made = Choices(seed, choices)
    report = experiment.run(made)
    failure = None if report.failure is None else attrs.evolve(report.failure, story="")
    return Recording(
        version=version,
        experiment=experiment,
        seed=seed,
        trace_digest=report.trace_digest,
        events=report.events,
        failure=failure,
        choices=made.made,
    )


def read(path: Path) -> Recording:
    """Read a recording.

    Raises:
        ConfigError: there is no such file, or it is none; the message names the line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if len(data) > SIZE_MAX:
        raise ConfigError(f"{path}: larger than any recording")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: no recording: it is not text") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Recording:
    """Take the text of a recording apart; `name` is what errors call it.

    Raises:
        ConfigError: it is none; the message names the line.
    """
    return _Reader(name, text).recording()


class _Reader:
    """Takes a file apart, line by line."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._lines = text.split("\n")
        self._at = 0  # Lines taken.

    def recording(self) -> Recording:
        if self._next() != FORMAT:
            raise self._error(f"no recording of this version: it begins with {FORMAT!r}")
        fields = self._headings()
        choices = self._choices()
        trace = _TRACE.fullmatch(fields["trace"])
        if trace is None:
            raise self._error("trace is a digest of 8 hexadecimal digits 'after' so many 'events'", "trace")
        if _NUMBER.fullmatch(fields["seed"]) is None:
            raise self._error("seed is no whole number", "seed")
        try:
            experiment = experiment_named(fields["experiment"])
        except ConfigError as error:
            raise self._error(str(error), "experiment") from error
        failure = Failure(fields["rule"], fields["text"], fields["where"], "") if "rule" in fields else None
        return Recording(
            version=fields["version"],
            experiment=experiment,
            seed=int(fields["seed"]),
            trace_digest=int(trace["digest"], 16),
            events=int(trace["events"]),
            failure=failure,
            choices=choices,
        )

    def _headings(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        while line := self._next():
            if line.startswith("  ") and list(fields)[-1:] == ["text"]:
                fields["text"] += "\n" + line[2:]
                continue
            heading, separator, value = line.partition(":")
            if not separator or heading not in HEADINGS:
                raise self._error(f"expected a heading ({', '.join(HEADINGS)}) or an empty line before the choices")
            if heading in fields:
                raise self._error(f"{heading} comes twice")
            fields[heading] = value.removeprefix(" ")
        missing = [heading for heading in (HEADINGS if "rule" in fields else _CLEAN) if heading not in fields]
        if missing:
            raise self._error(f"the headings lack {', '.join(missing)}")
        return fields

    def _choices(self) -> dict[Key, int]:
        choices: dict[Key, int] = {}
        while self._at < len(self._lines):
            line = self._next()
            if not line:
                continue
            choice = _CHOICE.fullmatch(line)
            key = None if choice is None else _parse(choice["key"])
            if choice is None or key is None:
                raise self._error("expected a choice: words and numbers with commas between them, ' = ', a number")
            if key in choices:
                raise self._error("this choice comes twice")
            choices[key] = int(choice["value"])
        return choices

    def _next(self) -> str:
        if self._at == len(self._lines):
            return ""
        self._at += 1
        return self._lines[self._at - 1].rstrip("\r")

    def _error(self, what: str, heading: str | None = None) -> ConfigError:
        line = self._at
        if heading is not None:
            line = 1 + next(at for at, text in enumerate(self._lines) if text.startswith(f"{heading}:"))
        return ConfigError(f"{self._name}, line {line}: {what}")


def _order(choice: tuple[Key, int]) -> list[tuple[bool, int, str]]:
    """Numbers by size and before words: keys of one label stand together, in the order of their entities."""
    key, _ = choice
    return [(True, 0, part) if isinstance(part, str) else (False, part, "") for part in key]


def _spell(key: Key) -> str:
    return ", ".join(_spell_part(part) for part in key)


def _spell_part(part: str | int) -> str:
    if isinstance(part, int):
        return str(part)
    return part if _WORD.fullmatch(part) else json.dumps(part)


def _parse(text: str) -> Key | None:
    key: list[str | int] = []
    at = 0
    while True:
        part = _PART.match(text, at)
        if part is None:
            return None
        if part["quoted"] is not None:
            try:
                key.append(json.loads(part["quoted"]))
            except json.JSONDecodeError:
                return None
        else:
            key.append(int(part["number"]) if part["number"] is not None else part["word"])
        at = part.end()
        if at == len(text):
            return tuple(key)
        if not text.startswith(", ", at):
            return None
        at += 2
