"""`trio-pb sim check-history`: is a recorded history linearizable?"""

from __future__ import annotations

from pathlib import Path

from sim.linearizability import BUDGET_STEPS, UNKNOWN, Call, Report, Verdict, check, read_history
from sim.linearizability.models import MODELS
from trio_pb.cli.output import ExitCode, Flag, print_json
from trio_pb.errors import ConfigError

__all__ = ["check_history"]

EXIT_CODES = {
    Verdict.LINEARIZABLE: ExitCode.OK,
    Verdict.VIOLATION: ExitCode.FAILED,
    Verdict.UNKNOWN: ExitCode.UNAVAILABLE,
}


def check_history(file: Path, /, *, model: str = "orders", budget: int = BUDGET_STEPS, json: Flag = False) -> int:
    """Check whether one order of all calls explains every answer in a recorded history.

    Only what callers saw counts: when a call began, when it ended, what was asked, what was answered. Exit
    code 1 if there is no such order, with the few calls that show it; 3 if the budget did not suffice.

    Args:
        file: One call a line, as JSON: process, begin, end, input, output.
        model: What the history is of: orders, register, counter or queue.
        budget: Steps of the model that the search may take.
        json: Print one JSON object.
    """
    if model not in MODELS:
        raise ConfigError(f"--model {model}: there is no such model; choose one of {', '.join(MODELS)}")
    if budget < 1:
        raise ConfigError(f"--budget {budget}: must be at least 1")
    machine = MODELS[model]()
    try:
        calls = read_history(file, machine)
    except OSError as error:  # Exit code 1 says that the history is wrong, which nobody knows here.
        raise ConfigError(f"{file}: {error.strerror}") from error
    report = check(machine, calls, budget)
    if json:
        print_json(_fields(report))
    else:
        print(report.text)
    return EXIT_CODES[report.verdict]


def _fields(report: Report) -> dict[str, object]:
    found = report.counterexample
    return {
        "verdict": report.verdict.value,
        "model": report.model,
        "calls": report.calls,
        "objects": report.partitions,
        "steps": report.steps,
        "counterexample": None
        if found is None
        else {
            "numbers": [index + 1 for index in found.indexes],
            "calls": [_call_fields(call) for call in found.calls],
            "either_way": [_call_fields(call) for call in found.either_way],
            "text": found.text,
        },
    }


def _call_fields(call: Call) -> dict[str, object]:
    fields: dict[str, object] = {"process": call.process, "begin": call.begin, "end": call.end, "input": call.input}
    return fields if call.output is UNKNOWN else {**fields, "output": call.output}
