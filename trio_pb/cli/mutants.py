"""`trio-pb sim mutants`: bugs planted in the shipped code, and how soon the simulator notices each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.progress import Progress, TaskID

from sim.mutants.catalogue import CATALOGUE, LOAD_BEARING, NOT_YET_APPLICABLE, find, from_file, trap_mutants
from sim.mutants.hunt import Budget, Find, Verdict
from sim.mutants.mutant import Mutant
from sim.mutants.score import Score, score
from trio_pb.cli.output import (
    ExitCode,
    Flag,
    errors,
    new_table,
    print_json,
    print_table,
    progress_bar,
)
from trio_pb.cli.seeds import check_seeds
from trio_pb.errors import ConfigError

__all__ = ["mutants_command"]

BUDGET_S = 20.0
SHRINK_S = 10.0
BAR_WIDTH = 16
SLOWEST = 5


def mutants_command(
    *,
    only: list[str] | None = None,
    budget_s: float = BUDGET_S,
    seeds: int | None = None,
    first_seed: int = 1,
    shrink_s: float = SHRINK_S,
    source: Annotated[Path | None, Parameter(name="--from")] = None,
    jobs: int = 1,
    list_: Annotated[bool, Parameter(name="--list", show_default=False)] = False,
    json: Flag = False,
) -> int:
    """Plant bugs in the shipped code, one at a time, and see whether the simulator notices.

    Each is hunted twice, through the same seeds in the same order: with the core's own asserts, and without them,
    when only a check from outside counts. Last, as many seeds are run with nothing planted. Exit code 1 if a bug
    was missed, or if something was noticed where there is nothing.

    Args:
        only: The name of a mutant; may be given several times. Then nothing is run without one.
        budget_s: CPU seconds for each hunt.
        seeds: The most seeds of each hunt. With a large --budget-s, verdicts are the same on every machine.
        first_seed: The first of them.
        shrink_s: CPU seconds in which to make a failing run small; 0 leaves it as it is.
        source: Further mutants, from a Python file of the form of those in sim/mutants.
        jobs: Mutants to hunt at once, each in a process.
        list_: Only tell what there is: what is done wrong, the rule that it breaks, and where it was seen.
        json: Print one JSON object.
    """
    check_seeds(1 if seeds is None else seeds, first_seed, jobs)
    if budget_s <= 0:
        raise ConfigError(f"--budget-s {budget_s:g}: must be above 0")
    if shrink_s < 0:
        raise ConfigError(f"--shrink-s {shrink_s:g}: must not be negative")
    more = from_file(source) if source is not None else ()
    known = (*CATALOGUE.values(), *more)
    chosen = known if only is None else tuple(find(name, source) for name in only)
    if list_:
        return _list(chosen, json=json)
    budget = Budget(cpu_seconds=budget_s, seeds=seeds, shrink_seconds=shrink_s, first_seed=first_seed)
    with progress_bar(errors(), BAR_WIDTH) as bar:
        task = bar.add_task("mutants", total=len(chosen), note="")
        result = score(
            [it.name for it in chosen],
            budget,
            source=source,
            jobs=jobs,
            clean_budget=budget if only is None else None,
            progress=lambda verdict: _show(bar, task, verdict),
        )
    if json:
        print_json(_fields(result, budget, known))
    else:
        _print(result, known)
    return ExitCode.OK if result.is_complete else ExitCode.FAILED


def _show(bar: Progress, task: TaskID, verdict: Verdict) -> None:
    bar.update(task, advance=1, note=f"{verdict.mutant.name}: {verdict.status}")


def _list(chosen: tuple[Mutant, ...], *, json: bool) -> int:
    if json:
        print_json([_fields_of_mutant(it) for it in chosen])
        return ExitCode.OK
    for it in chosen:
        print(f"{it.name} ({it.area})")
        print(f"  {it.what}")
        print(f"  breaks: {it.breaks}; expected: {', '.join(it.expects)}")
        print(f"  seen in: {it.source}")
        if it.equivalent:
            print(f"  not noticed alone: {it.equivalent}; its pair: {it.pair}")
    return ExitCode.OK


def _fields_of_mutant(it: Mutant) -> dict[str, object]:
    return {
        "name": it.name,
        "area": it.area,
        "what": it.what,
        "breaks": it.breaks,
        "traps": sorted(it.traps),
        "source": it.source,
        "expects": list(it.expects),
        "equivalent": it.equivalent or None,
        "pair": it.pair or None,
    }


def _fields_of_find(it: Find) -> dict[str, object]:
    caught = it.catch
    found: dict[str, object] = {"runs": it.runs, "cpu_seconds": round(it.cpu_seconds, 3), "rule": None}
    if caught is not None:
        found |= {
            "rule": caught.rule,
            "is_by_oracle": caught.is_by_oracle,
            "text": caught.text,
            "where": caught.where,
            "profile": caught.profile,
            "seed": caught.seed,
        }
    return found


def _fields(result: Score, budget: Budget, known: tuple[Mutant, ...]) -> dict[str, object]:
    return {
        "budget_s": budget.cpu_seconds,
        "seeds": budget.seeds,
        "first_seed": budget.first_seed,
        "mutants": len(result.verdicts),
        "to_be_found": len(result.to_be_found),
        "found": len(result.found),
        "score": len(result.found) / len(result.to_be_found) if result.to_be_found else 1.0,
        "median_cpu_s": round(result.median_seconds, 3),
        "slowest_cpu_s": round(max(result.times, default=0.0), 3),
        "unpaired": result.unpaired,
        "nothing_planted": [_fields_of_find(it) for it in result.clean],
        "load_bearing": dict(LOAD_BEARING),
        "traps": {
            str(trap): list(names) or NOT_YET_APPLICABLE.get(trap, "none")
            for trap, names in trap_mutants(known).items()
        },
        "verdicts": [
            _fields_of_mutant(it.mutant)
            | {
                "status": it.status,
                "is_alive": it.is_alive,
                "is_by_expected": it.outside is not None
                and it.outside.catch is not None
                and it.outside.catch.rule in it.mutant.expects,
                "choices": it.choices,
                "events": it.events,
                "shipped": _fields_of_find(it.shipped),
                "without_asserts": _fields_of_find(it.without_asserts),
            }
            for it in result.verdicts
        ],
    }


def _print(result: Score, known: tuple[Mutant, ...]) -> None:
    table = new_table("mutant", "verdict", "noticed by", "without asserts", "CPU s", "seed", "choices", "events")
    for it in result.verdicts:
        outside = it.outside
        caught = outside.catch if outside is not None else None
        table.add_row(
            it.mutant.name,
            it.status if it.is_alive else f"{it.status}, changes nothing",
            _noticed(it.shipped),
            _noticed(it.without_asserts),
            "" if outside is None else f"{outside.cpu_seconds:.1f}",
            "" if caught is None else f"{caught.seed} {caught.profile}",
            str(it.choices) if it.events else "",
            str(it.events) if it.events else "",
        )
    print_table(table)
    print()
    print(
        f"{len(result.found)} of {len(result.to_be_found)} found from outside, with the core's asserts off as well; "
        f"median {result.median_seconds:.1f} CPU s."
    )
    slowest = sorted(result.found, key=lambda it: -(it.outside.cpu_seconds if it.outside else 0.0))[:SLOWEST]
    if len(result.found) > SLOWEST:
        told = ", ".join(f"{it.mutant.name} {it.outside.cpu_seconds if it.outside else 0:.1f} s" for it in slowest)
        print(f"Slowest: {told}.")
    by_core = [
        it.mutant.name for it in result.found if it.shipped.catch is not None and not it.shipped.catch.is_by_oracle
    ]
    if by_core:
        print(f"In the shipped code a check of the core's own was first for {len(by_core)}: {', '.join(by_core)}.")
    equal = [it for it in result.verdicts if it.status == "equivalent"]
    for it in equal:
        print(f"Equivalent: {it.mutant.name}: {it.mutant.equivalent}. Its pair: {it.mutant.pair}.")
    for name in result.unpaired:
        print(f"NOT SHOWN to be equivalent: {name}: its pair was not found either.")
    for it in result.verdicts:
        if it not in result.found and it not in equal:
            print(f"NOT FOUND: {it.mutant.name}: {it.status}. Expected: {', '.join(it.mutant.expects)}.")
    if result.clean:
        _print_clean(result)
        traps = trap_mutants(known)
        missing = [f"T-{trap} ({NOT_YET_APPLICABLE.get(trap, 'none')})" for trap, names in traps.items() if not names]
        print(f"Traps of PROTOCOL 13 with a mutant: {sum(map(bool, traps.values()))} of {len(traps)}.")
        if missing:
            print(f"Without one: {', '.join(missing)}.")


def _print_clean(result: Score) -> None:
    runs, seconds = sum(it.runs for it in result.clean), sum(it.cpu_seconds for it in result.clean)
    told = f"Nothing planted: {runs} runs in {seconds:.1f} CPU s"
    for it in result.clean:
        if it.catch is not None:
            print(
                f"{told}, and YET NOTICED: {it.catch.rule} ({it.catch.profile}, seed {it.catch.seed}): {it.catch.text}"
            )
    if result.is_clean:
        print(f"{told}, nothing noticed.")


def _noticed(it: Find) -> str:
    caught = it.catch
    if caught is None:
        return f"nobody in {it.runs} runs"
    return caught.rule if caught.is_by_oracle else f"the core ({caught.rule})"
