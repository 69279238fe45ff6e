"""Latency over time as an SVG, with every fault as a bar below it: what hurt, how much, for how long."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

import attrs

from trio_pb.testbed.torture.deck import NETWORK, Kind
from trio_pb.testbed.torture.nemesis import Action, Calm

__all__ = ["Sample", "draw"]

WIDTH = 1600
LEFT, RIGHT, TOP = 110, 24, 64
LATENCY_HEIGHT = 300
RATE_HEIGHT = 70
LANE_HEIGHT = 15
GAP = 26
COLUMNS_MAX = 700  # Of time: each is two pixels wide, and has a bar from median to maximum.
LATENCIES_MS = (1, 10, 100, 1000, 10_000)
LOWEST_MS = 0.5
TICKS_MAX = 14

COLOURS = {"network": "#2a78b8", "process": "#c2452d", "clock": "#7b4fa3", "disk": "#b57a12"}
MEDIAN, SLOWEST, UNKNOWN, RATE, CALM = "#1f6f54", "#9fd0bd", "#d62728", "#5b6b7a", "#eef4ee"


@attrs.frozen
class Sample:
    """One call. Times in seconds since the load began."""

    begin: float
    end: float
    is_order: bool
    is_answered: bool


def draw(
    title: str, seconds: float, samples: Sequence[Sample], actions: Sequence[Action], calms: Sequence[Calm]
) -> str:
    """Return the picture; the calls of all kinds in one plot, orders a second below, then a lane for each kind."""
    columns = max(1, min(COLUMNS_MAX, math.ceil(seconds * 4)))
    width = WIDTH - LEFT - RIGHT

    def at(moment: float) -> float:
        return LEFT + width * min(max(moment / seconds, 0.0), 1.0)

    lanes_top = TOP + LATENCY_HEIGHT + GAP + RATE_HEIGHT + GAP
    height = lanes_top + LANE_HEIGHT * len(Kind) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="11" fill="#222">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="16" font-weight="600">{escape(title)}</text>',
        *_legend(),
        *_calm(calms, seconds, at, lanes_top - TOP),
        *_axes(seconds, at, lanes_top + LANE_HEIGHT * len(Kind)),
        *_latencies(samples, seconds, columns, at),
        *_rates(samples, seconds, columns, at),
        *_lanes(actions, at, lanes_top),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _y_of(seconds: float) -> float:
    """Where a latency stands, on a logarithmic scale."""
    low, high = math.log10(LOWEST_MS), math.log10(LATENCIES_MS[-1])
    share = (math.log10(max(1000 * seconds, LOWEST_MS)) - low) / (high - low)
    return TOP + LATENCY_HEIGHT * (1 - min(share, 1.0))


def _legend() -> Iterable[str]:
    words = [
        ("median latency", MEDIAN),
        ("slowest", SLOWEST),
        ("no answer in time", UNKNOWN),
        ("demanded to recover", CALM),
        *((f"{family} fault", colour) for family, colour in COLOURS.items()),
    ]
    x = float(LEFT)
    for word, colour in words:
        yield f'<rect x="{x:.1f}" y="36" width="12" height="10" fill="{colour}"/>'
        yield f'<text x="{x + 17:.1f}" y="45">{word}</text>'
        x += 34 + 6.6 * len(word)


def _calm(calms: Sequence[Calm], seconds: float, at: Callable[[float], float], height: float) -> Iterable[str]:
    for calm in calms:
        end = seconds if calm.whole is None else calm.begin + calm.whole
        x = at(calm.begin)
        colour = CALM if calm.whole is not None and calm.progress is not None else "#fbd5d5"
        yield (
            f'<rect x="{x:.1f}" y="{TOP}" width="{max(at(end) - x, 1):.1f}" height="{height - GAP}" fill="{colour}">'
            f"<title>round {calm.round}: orders again after {_seconds(calm.progress)}, whole after "
            f"{_seconds(calm.whole)} {escape(calm.told)}</title></rect>"
        )


def _seconds(value: float | None) -> str:
    return "too long" if value is None else f"{value:.2f} s"


def _axes(seconds: float, at: Callable[[float], float], bottom: float) -> Iterable[str]:
    for latency in LATENCIES_MS:
        y = _y_of(latency / 1000)
        name = f"{latency} ms" if latency < 1000 else f"{latency // 1000} s"
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#d8dde2"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{name}</text>'
    step = next(step for step in (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10**9) if seconds / step <= TICKS_MAX)
    for moment in range(0, int(seconds) + 1, step):
        x = at(moment)
        name = f"{moment // 60}:{moment % 60:02d}"
        yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="#eceff2"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{name}</text>'
    yield f'<text x="{LEFT}" y="{bottom + 32:.1f}">minutes : seconds since the load began</text>'


def _latencies(samples: Sequence[Sample], seconds: float, columns: int, at: Callable[[float], float]) -> Iterable[str]:
    """For each column of time, in which its calls began: a bar from the median to the slowest, and the median."""
    by_column: list[list[float]] = [[] for _ in range(columns)]
    unanswered = [0] * columns
    for sample in samples:
        column = min(max(int(columns * sample.begin / seconds), 0), columns - 1)
        if sample.is_answered:
            by_column[column].append(sample.end - sample.begin)
        else:
            unanswered[column] += 1
    width = max(1.0, (at(seconds) - at(0)) / columns - 0.4)
    medians: list[str] = []
    for column, latencies in enumerate(by_column):
        x = at(seconds * column / columns)
        if latencies:
            latencies.sort()
            middle, top = _y_of(latencies[len(latencies) // 2]), _y_of(latencies[-1])
            yield f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{middle - top:.1f}" fill="{SLOWEST}"/>'
            medians.append(f"{'L' if medians else 'M'}{x + width / 2:.1f} {middle:.1f}")
        if unanswered[column]:
            size = min(4 + 2 * unanswered[column], 20)
            yield (
                f'<rect x="{x:.1f}" y="{TOP}" width="{max(width, 2):.1f}" height="{size}" fill="{UNKNOWN}">'
                f"<title>{unanswered[column]} calls that began here got no answer in time</title></rect>"
            )
    yield f'<path d="{"".join(medians)}" fill="none" stroke="{MEDIAN}" stroke-width="1.4"/>'


def _rates(samples: Sequence[Sample], seconds: float, columns: int, at: Callable[[float], float]) -> Iterable[str]:
    """Orders that were answered, per second, in a band of its own."""
    counts = [0] * columns
    for sample in samples:
        if sample.is_order and sample.is_answered:
            counts[min(max(int(columns * sample.end / seconds), 0), columns - 1)] += 1
    per_second = [count * columns / seconds for count in counts]
    top = max([*per_second, 1.0])
    bottom = TOP + LATENCY_HEIGHT + GAP + RATE_HEIGHT
    points = [f"M{at(0):.1f} {bottom}"]
    for column, rate in enumerate(per_second):
        y = bottom - RATE_HEIGHT * rate / top
        points.append(f"L{at(seconds * column / columns):.1f} {y:.1f}")
        points.append(f"L{at(seconds * (column + 1) / columns):.1f} {y:.1f}")
    points.append(f"L{at(seconds):.1f} {bottom}Z")
    yield f'<path d="{"".join(points)}" fill="{RATE}" fill-opacity="0.55"/>'
    yield f'<text x="{LEFT - 8}" y="{bottom - RATE_HEIGHT + 8}" text-anchor="end">{top:,.0f}</text>'
    yield f'<text x="{LEFT - 8}" y="{bottom - RATE_HEIGHT / 2 + 4}" text-anchor="end">orders/s</text>'
    yield f'<text x="{LEFT - 8}" y="{bottom}" text-anchor="end">0</text>'


def _lanes(actions: Sequence[Action], at: Callable[[float], float], top: float) -> Iterable[str]:
    """One lane for each kind of fault, with a bar for each time that it was done."""
    for lane, kind in enumerate(Kind):
        y = top + LANE_HEIGHT * lane
        count = sum(action.kind is kind for action in actions)
        yield f'<line x1="{LEFT}" y1="{y + 7}" x2="{WIDTH - RIGHT}" y2="{y + 7}" stroke="#eceff2"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 11}" text-anchor="end">{kind}, {count}</text>'
        for action in actions:
            if action.kind is kind:
                x, width = at(action.begin), max(at(action.end) - at(action.begin), 2)
                told = f"{kind}, {action.target}: {action.what} ({action.begin:.1f} to {action.end:.1f} s)"
                yield (
                    f'<rect x="{x:.1f}" y="{y + 2}" width="{width:.1f}" height="{LANE_HEIGHT - 5}" '
                    f'rx="2" fill="{COLOURS[_family(kind)]}"><title>{escape(told)}</title></rect>'
                )


def _family(kind: Kind) -> str:
    if kind in NETWORK:
        return "network"
    if kind in (Kind.KILL, Kind.POWER_CUT, Kind.PAUSE):
        return "process"
    return "clock" if kind in (Kind.CLOCK_JUMP, Kind.CLOCK_DRIFT) else "disk"
