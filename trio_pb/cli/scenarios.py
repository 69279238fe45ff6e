"""`trio-pb sim scenarios` and `trio-pb sim run --scenario`: short plays, told sentence by sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import zip_longest
from textwrap import wrap
from time import process_time

import attrs

from sim.choices import Choices
from sim.naive.replica import Replica
from sim.naive.run import Verdict, play, report_of
from sim.naive.scripts import SCRIPTS, Script
from sim.narration import Line
from sim.oracles.facts import Violation
from sim.run import Failure
from sim.scenarios.catalogue import SCENARIOS
from sim.scenarios.scenario import Scenario
from trio_pb.cli.output import ExitCode, Flag, new_table, print_json, print_table, screen
from trio_pb.errors import ConfigError

__all__ = ["PROTOCOLS", "play_silently", "run_scenario", "scenarios"]

VSR = "vsr"
NAIVE = "naive"
PROTOCOLS = (VSR, NAIVE)
ALL = "all"
TEXT_WIDTH = 100
TITLE_WIDTH_MIN = 30  # In the list, however narrow the terminal is.
SEED = 1  # Of scenarios, in which nothing but latencies is left to chance.


def scenarios(*, json: Flag = False) -> None:
    """List the named scenarios.

    Those about mistakes run on two protocols: with `--protocol naive` on one that makes the mistake, and
    otherwise on trio-pb, which survives the same script.

    Args:
        json: Print one JSON object.
    """
    if json:
        print_json({"scenarios": [_listed(it) for it in SCENARIOS.values()]})
        return
    names_width = max(map(len, SCENARIOS)) + 4
    console = screen()
    titles_width = max(console.width - names_width, TITLE_WIDTH_MIN) if console.is_terminal else TEXT_WIDTH
    for subject in dict.fromkeys(it.subject for it in SCENARIOS.values()):
        also = ": of textbook primary-backup; with --protocol naive one sees them made" if subject == "mistakes" else ""
        print(f"{subject}{also}")
        for it in SCENARIOS.values():
            if it.subject == subject:
                for name, line in zip_longest([f"  {it.name}"], wrap(it.title, titles_width), fillvalue=""):
                    print(f"{name:{names_width}}{line}")
        print()
    print(f"{len(SCENARIOS)} scenarios; trio-pb sim run --scenario NAME plays one, --scenario all plays all.")


def run_scenario(name: str, protocol: str, *, json: bool) -> int:
    """Play a scenario, or all, on a protocol, and tell the story; return the exit code.

    Raises:
        ConfigError: there is no such scenario.
    """
    if name == ALL:
        return _run_mistakes(json=json) if protocol == NAIVE else _run_all(json=json)
    _check(name, protocol)
    return _run_mistake(SCRIPTS[name], json=json) if protocol == NAIVE else _run_one(SCENARIOS[name], json=json)


def play_silently(name: str, protocol: str) -> Failure | None:
    """Play a scenario on a protocol for somebody who listens; return what was broken, if anything.

    Raises:
        ConfigError: there is no such scenario, or no such protocol.
    """
    _check(name, protocol)
    if protocol == NAIVE:
        return report_of(play(SCRIPTS[name], Choices(SEED))).failure
    played = _play(SCENARIOS[name])
    return None if played.rule is None else Failure(played.rule, played.text or "", "", "")


def _check(name: str, protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise ConfigError(f"--protocol {protocol}: there is no such protocol; choose one of {', '.join(PROTOCOLS)}")
    known: Iterable[str] = SCRIPTS if protocol == NAIVE else SCENARIOS
    if name not in known:
        raise ConfigError(_unknown(name, protocol, list(known)))


# --- On trio-pb -------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class _Played:
    """How a scenario went on trio-pb."""

    scenario: Scenario
    lines: Sequence[Line]
    rule: str | None  # None: everything came true.
    text: str | None
    cpu_seconds: float

    @property
    def fields(self) -> dict[str, object]:
        return {
            "scenario": self.scenario.name,
            "protocol": VSR,
            "held": self.rule is None,
            "rule": self.rule,
            "text": self.text,
            "cpu_seconds": round(self.cpu_seconds, 3),
        }


def _play(scenario: Scenario) -> _Played:
    began = process_time()
    rule = text = None
    cluster = scenario.cluster()
    try:
        scenario.play(cluster)
    except Violation as violation:
        rule, text = violation.rule, str(violation).removeprefix(f"{violation.rule}: ")
    except AssertionError as error:
        rule, text = "expectation", str(error)
    seconds = process_time() - began
    return _Played(scenario=scenario, lines=cluster.narration.lines, rule=rule, text=text, cpu_seconds=seconds)


def _run_one(scenario: Scenario, *, json: bool) -> int:
    played = _play(scenario)
    if json:
        print_json(played.fields | {"title": scenario.title, "story": _story(played.lines)})
    else:
        _print_head(scenario.name, scenario.title)
        _print_lines(played.lines)
        print()
        print(
            f"FAILED {played.rule}: {played.text}" if played.rule else "It held, under every oracle of the simulator."
        )
    return ExitCode.FAILED if played.rule else ExitCode.OK


def _run_all(*, json: bool) -> int:
    results = [_play(scenario) for scenario in SCENARIOS.values()]
    failed = [played for played in results if played.rule is not None]
    if json:
        print_json({"failed": len(failed), "scenarios": [played.fields for played in results]})
    else:
        table = new_table("scenario", "about", "", "ms of CPU")
        table.columns[-1].justify = "right"
        for played in results:
            outcome = f"FAILED {played.rule}" if played.rule else "held"
            table.add_row(played.scenario.name, played.scenario.subject, outcome, f"{1000 * played.cpu_seconds:.0f}")
        print_table(table)
        print()
        print(f"{len(failed)} of {len(results)} scenarios FAILED." if failed else f"All {len(results)} scenarios held.")
    return ExitCode.FAILED if failed else ExitCode.OK


# --- On the naive protocol ----------------------------------------------------------------------------


def _run_mistake(script: Script, *, json: bool) -> int:
    verdict = play(script, Choices(SEED))
    if json:
        fields = _mistake_fields(script, verdict)
        print_json(fields | {"mistake": _words(script.mistake), "story": _story(verdict.story)})
        return ExitCode.FAILED if verdict.rule else ExitCode.OK
    _print_head(script.name, script.title)
    for line in wrap(_words(script.mistake), TEXT_WIDTH):
        print(line)
    print()
    _print_lines(verdict.story)
    print()
    if verdict.rule is None:
        print("No judge has found anything.")
        return ExitCode.OK
    for line in wrap(f"FAILED {verdict.rule}: {verdict.text}", TEXT_WIDTH):
        print(line)
    print()
    print(f"The same script on trio-pb: trio-pb sim run --scenario {script.name}")
    return ExitCode.FAILED


def _run_mistakes(*, json: bool) -> int:
    rows = [
        (script, play(script, Choices(SEED)), _mended(script), _play(SCENARIOS[name]))
        for name, script in SCRIPTS.items()
    ]
    as_told = all(
        verdict.rule == script.oracle and mended.rule is None and ours.rule is None
        for script, verdict, mended, ours in rows
    )
    if json:
        mistakes = [
            _mistake_fields(script, verdict)
            | {"without_the_mistake": mended.rule or "held", "trio_pb": ours.rule or "held"}
            for script, verdict, mended, ours in rows
        ]
        print_json({"as_expected": as_told, "mistakes": mistakes})
    else:
        table = new_table("mistake", "found by", "events", "without it", "trio-pb")
        table.columns[2].justify = "right"
        for script, verdict, mended, ours in rows:
            events = str(verdict.cluster.happened)
            table.add_row(script.name, verdict.rule or "NOBODY", events, mended.rule or "held", ours.rule or "held")
        print_table(table)
        print()
        if as_told:
            print(
                "Each mistake is found by the judge that it is for, and by none once it is mended; trio-pb makes none."
            )
        else:
            print("NOT as it should be: a mistake was found by another judge or by none, or something else failed.")
    return ExitCode.OK if as_told else ExitCode.FAILED


def _mended(script: Script) -> Verdict:
    return play(script, Choices(SEED), kind=Replica)


def _mistake_fields(script: Script, verdict: Verdict) -> dict[str, object]:
    return {
        "scenario": script.name,
        "protocol": NAIVE,
        "title": script.title,
        "rule": verdict.rule,
        "expected_rule": script.oracle,
        "text": verdict.text,
        "events": verdict.cluster.happened,
    }


# --- Words --------------------------------------------------------------------------------------------


def _listed(scenario: Scenario) -> dict[str, object]:
    protocols = PROTOCOLS if scenario.name in SCRIPTS else (VSR,)
    return {
        "name": scenario.name,
        "subject": scenario.subject,
        "title": scenario.title,
        "replicas": scenario.replicas,
        "protocols": list(protocols),
    }


def _print_head(name: str, title: str) -> None:
    for line in wrap(f"{name}: {title}", TEXT_WIDTH):
        print(line)
    print()


def _print_lines(lines: Iterable[Line]) -> None:
    for line in lines:
        print(line)


def _story(lines: Iterable[Line]) -> list[dict[str, object]]:
    return [{"time_us": line.time, "text": line.text, "is_check": line.is_check} for line in lines]


def _words(kind: type[Replica]) -> str:
    return " ".join((kind.__doc__ or "").split())


def _unknown(name: str, protocol: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    if protocol == NAIVE and name in SCENARIOS:
        return f"--scenario {name}: not for --protocol naive, which has {', '.join(known)}"
    return f"--scenario {name}: there is no such scenario{hint} (trio-pb sim scenarios lists them)"
