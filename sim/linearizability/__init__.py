"""Is there one order of all calls that explains every answer? A checker for histories of any cluster.

    report = check(Orders(), read_history(path, Orders()))
    print(report.text)

It believes nothing but what callers saw: when each call began, when it ended, what was asked and what was
answered. A call whose outcome nobody knows may have taken effect at any time after it began, or never.
"""

from __future__ import annotations

from sim.linearizability.check import BUDGET_STEPS, Counterexample, Report, Verdict, check
from sim.linearizability.history import UNKNOWN, Call, HistoryError, read_history, write_history
from sim.linearizability.model import Model, Part

__all__ = [
    "BUDGET_STEPS",
    "UNKNOWN",
    "Call",
    "Counterexample",
    "HistoryError",
    "Model",
    "Part",
    "Report",
    "Verdict",
    "check",
    "read_history",
    "write_history",
]
