"""What a torture found, as one JSON object and as a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import attrs

from sim.linearizability import UNKNOWN
from trio_pb.testbed.torture.deck import Kind
from trio_pb.testbed.torture.plot import Sample, draw
from trio_pb.testbed.torture.run import Result

__all__ = ["fields_of", "latencies_of", "picture_of"]

SECOND_NS = 1_000_000_000


def fields_of(result: Result) -> dict[str, object]:
    """Everything but the calls themselves."""
    counts = Counter(action.kind for action in result.actions if action.is_done)
    latencies = latencies_of(result)
    return {
        "ok": result.ok,
        "seed": result.seed,
        "seconds": round(result.seconds, 1),
        "orders": {"asked": result.asked, "acknowledged": result.placed},
        "calls": {
            "made": len(result.attempts),
            "unknown": sum(it.has_effect and it.output is UNKNOWN for it in result.attempts),
            "without_effect": sum(not it.has_effect for it in result.attempts),
            "why": dict(sorted(Counter(it.told for it in result.attempts if it.told).items())),
        },
        "latency_ms": {name: round(1000 * quantile(latencies, share), 2) for name, share in SHARES.items()},
        "check_seconds": round(result.checked_seconds, 1),
        "verdicts": [
            {"name": it.name, "holds": it.holds, "what": it.what, "complaints": list(it.complaints)}
            for it in result.verdicts
        ],
        "faults": {str(kind): counts[kind] for kind in Kind},
        "actions": [
            {**attrs.asdict(action), "begin": round(action.begin, 3), "end": round(action.end, 3)}
            for action in result.actions
        ],
        "rounds": [attrs.asdict(calm) for calm in result.calms],
    }


SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def latencies_of(result: Result) -> list[float]:
    """Seconds that each answered order took, ascending."""
    return sorted(
        (it.end - it.begin) / SECOND_NS
        for it in result.attempts
        if it.input[0] == "place" and it.has_effect and it.output is not UNKNOWN
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of an ascending sequence lies; 0.0 of none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def picture_of(result: Result) -> str:
    """Latency and faults over time, as an SVG."""
    samples = [
        Sample(
            begin=(it.begin - result.began_ns) / SECOND_NS,
            end=(it.end - result.began_ns) / SECOND_NS,
            is_order=it.input[0] == "place",
            is_answered=it.has_effect and it.output is not UNKNOWN,
        )
        for it in result.attempts
    ]
    title = (
        f"trio-pb torture, seed {result.seed}: {result.seconds:.0f} s, {len(result.actions)} faults, "
        f"{result.placed:,} orders acknowledged, {'all holds' if result.ok else 'FAILED'}"
    )
    return draw(title, result.seconds, samples, result.actions, result.calms)
