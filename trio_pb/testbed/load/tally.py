"""What customers saw: latencies in histograms that can be added up, answers over time, and refusals by name.

Two questions have two answers. How much a cluster bears, tell the answers that came while it was measured, whenever
they were asked for. How long customers wait, tell the requests that were due in that time, whenever their answers
came: of a cluster that falls behind they come too late to count as borne.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import attrs
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from trio_pb.testbed.load.plan import KINDS

__all__ = ["COLUMN_SECONDS", "Latencies", "Tally", "Window", "columns_of"]

LOWEST_US, HIGHEST_US, DIGITS = 1, 120_000_000, 3
COLUMN_SECONDS = 0.1  # Of the answers over time.


class Latencies:
    """Latencies in microseconds, to three digits, whatever their number."""

    def __init__(self) -> None:
        self._histogram: Any = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)  # Its package has no types.

    def note(self, microseconds: float) -> None:
        """One more."""
        self._histogram.record_value(min(max(round(microseconds), LOWEST_US), HIGHEST_US))

    def add(self, encoded: str) -> None:
        """All of another one."""
        self._histogram.decode_and_add(encoded.encode())

    def encoded(self) -> str:
        """As text, for another process."""
        text: bytes = self._histogram.encode()
        return text.decode()

    @property
    def count(self) -> int:
        """How many."""
        return int(self._histogram.total_count)

    def at(self, share: float) -> float:
        """Milliseconds that `share` (0 to 1) of them do not exceed; 0 of none."""
        return float(self._histogram.get_value_at_percentile(100 * share)) / 1000 if self.count else 0.0

    @property
    def longest_ms(self) -> float:
        """Milliseconds that none exceeded."""
        return float(self._histogram.get_max_value()) / 1000 if self.count else 0.0


@attrs.define
class Tally:
    """Of one process, or of all of them together."""

    # With a rate: of requests due in the window, whenever the answer came. Else of answers that came in it.
    latencies: dict[str, Latencies] = attrs.Factory(lambda: {kind: Latencies() for kind in KINDS})
    refusals: Latencies = attrs.Factory(Latencies)  # How long it took to say no.
    failed: Counter[str] = attrs.Factory(Counter[str])  # Requests without an answer, by the name of the error.
    unsent: int = 0  # Of a given rate: those for which too many were waiting.
    columns: Counter[int] = attrs.Factory(Counter[int])  # Answers that came in each `COLUMN_SECONDS` of the window.
    unanswered: int = 0  # Requests that were open at its end.
    oldest_seconds: float = 0.0  # How long the one of them that was due first had been by then.
    late: int = 0  # Of these: those that were answered afterwards.

    @property
    def answers(self) -> int:
        """Those of all kinds that came in the window."""
        return self.columns.total()

    def fields(self) -> dict[str, object]:
        """As plain values, for another process."""
        return {
            "latencies": {kind: latencies.encoded() for kind, latencies in self.latencies.items()},
            "refusals": self.refusals.encoded(),
            "failed": dict(self.failed),
            "unsent": self.unsent,
            "columns": {str(column): count for column, count in self.columns.items()},
            "unanswered": self.unanswered,
            "oldest_seconds": self.oldest_seconds,
            "late": self.late,
        }

    def add(self, fields: Any) -> None:
        """Take in those of another process of ours."""
        for kind, encoded in fields["latencies"].items():
            self.latencies[kind].add(encoded)
        self.refusals.add(fields["refusals"])
        self.failed.update(fields["failed"])
        self.unsent += fields["unsent"]
        self.columns.update({int(column): count for column, count in fields["columns"].items()})
        self.unanswered += fields["unanswered"]
        self.oldest_seconds = max(self.oldest_seconds, fields["oldest_seconds"])
        self.late += fields["late"]


@attrs.frozen
class Window:
    """The time in which a load is measured, and what is told of it; all in seconds of one clock."""

    begin: float
    seconds: float
    has_rate: bool  # Requests are due at times of their own.
    tally: Tally

    @property
    def end(self) -> float:
        """The first moment after it."""
        return self.begin + self.seconds

    def answered(self, kind: str, due: float, now: float) -> None:
        """An answer came now."""
        is_inside = self.begin <= now < self.end
        if is_inside:
            column = min(int((now - self.begin) / COLUMN_SECONDS), columns_of(self.seconds) - 1)
            self.tally.columns[column] += 1
        if self.begin <= due < self.end if self.has_rate else is_inside:
            self.tally.latencies[kind].note((now - due) * 1e6)
        if now >= self.end:
            self.tally.late += 1
            self._was_open(due)

    def refused(self, name: str, due: float, now: float) -> None:
        """An error came instead: no matter when, unless it was before the window."""
        if now >= self.begin:
            self.tally.refusals.note((now - due) * 1e6)
            self.tally.failed[name] += 1
        if now >= self.end:
            self._was_open(due)

    def unsent(self, due: float) -> None:
        """There was no room for a request."""
        if self.begin <= due < self.end:
            self.tally.unsent += 1

    def _was_open(self, due: float) -> None:
        self.tally.unanswered += 1
        self.tally.oldest_seconds = max(self.tally.oldest_seconds, self.end - due)


def columns_of(seconds: float) -> int:
    """How many columns so long a window has."""
    return max(1, math.ceil(round(seconds / COLUMN_SECONDS, 6)))
