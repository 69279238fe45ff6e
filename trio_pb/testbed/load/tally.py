"""What customers saw: latencies in histograms that can be added up, answers over time, and refusals by name."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from trio_pb.testbed.load.plan import KINDS

__all__ = ["COLUMN_SECONDS", "Latencies", "Tally"]

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

    latencies: dict[str, Latencies] = attrs.Factory(lambda: {kind: Latencies() for kind in KINDS})
    refusals: Latencies = attrs.Factory(Latencies)  # How long it took to say no.
    failed: Counter[str] = attrs.Factory(Counter[str])  # Requests without an answer, by the name of the error.
    unsent: int = 0  # Of a given rate: those for which too many were waiting.
    columns: Counter[int] = attrs.Factory(Counter[int])  # Answers that came in each `COLUMN_SECONDS`.
    cpu_seconds: float = 0.0

    def answered(self, kind: str, microseconds: float, second: float) -> None:
        """An answer came `second` seconds into the measurement."""
        self.latencies[kind].note(microseconds)
        self.columns[int(second / COLUMN_SECONDS)] += 1

    def refused(self, name: str, microseconds: float) -> None:
        """An error came instead."""
        self.refusals.note(microseconds)
        self.failed[name] += 1

    @property
    def count(self) -> int:
        """Answers of all kinds."""
        return sum(latencies.count for latencies in self.latencies.values())

    def fields(self) -> dict[str, object]:
        """As plain values, for another process."""
        return {
            "latencies": {kind: latencies.encoded() for kind, latencies in self.latencies.items()},
            "refusals": self.refusals.encoded(),
            "failed": dict(self.failed),
            "unsent": self.unsent,
            "columns": {str(column): count for column, count in self.columns.items()},
            "cpu_seconds": self.cpu_seconds,
        }

    def add(self, fields: Any) -> None:
        """Take in those of another process of ours."""
        for kind, encoded in fields["latencies"].items():
            self.latencies[kind].add(encoded)
        self.refusals.add(fields["refusals"])
        self.failed.update(fields["failed"])
        self.unsent += fields["unsent"]
        self.columns.update({int(column): count for column, count in fields["columns"].items()})
        self.cpu_seconds += fields["cpu_seconds"]
