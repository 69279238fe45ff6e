"""Planted bugs: they come and go without a trace, the catalogue is whole, and the score is honest."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dis import get_instructions
from pathlib import Path

import attrs
import pytest

from sim.experiment import run_seed
from sim.mutants.catalogue import CATALOGUE, LOAD_BEARING, NOT_YET_APPLICABLE, TRAPS, find, from_file, trap_mutants
from sim.mutants.hunt import Budget, Catch, Find, Verdict, hunt, look
from sim.mutants.mutant import Mutant, Patch, mutant, planted
from sim.mutants.normal_case import acknowledge_before_durable
from sim.mutants.score import Score, score
from sim.mutants.without_asserts import without_asserts
from sim.workload import History
from trio_pb.cli.scenarios import play_silently
from trio_pb.core import normal, replica
from trio_pb.core.config import Options
from trio_pb.core.normal import Normal
from trio_pb.core.state import State
from trio_pb.errors import ConfigError
from trio_pb.storage import page

FEW = Budget(cpu_seconds=60.0, seeds=4, shrink_seconds=0.0)
OWN = '''
from sim.mutants.mutant import Patch, mutant
from trio_pb.core.persistence import Persistence


@mutant(breaks="R-ACK", source="a test", expects=("INV-31",))
def acknowledge_at_once(patch: Patch) -> None:
    """All is well."""
    patch.set(Persistence, "ackable", lambda self: self.state.log.appended_prefix)
'''


def _everything_there_is() -> dict[tuple[str, str], object]:
    """Each attribute of each class and module of the core, by name."""
    found: dict[tuple[str, str], object] = {}
    for module in (replica, normal, page):
        found.update({(module.__name__, name): value for name, value in vars(module).items()})
    for kind in (Normal, State, replica.Replica):
        found.update({(kind.__name__, name): value for name, value in vars(kind).items()})
    return found


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_it_fits_the_code_and_goes_again(name: str) -> None:
    """What it replaces is there, and is there again afterwards, whatever happens meanwhile."""
    before = _everything_there_is()
    with pytest.raises(ZeroDivisionError), planted(CATALOGUE[name]):
        raise ZeroDivisionError
    assert _everything_there_is() == before


def test_the_code_that_it_is_written_for_must_be_there() -> None:
    """A mutant of code that was changed says so, rather than changing nothing."""
    with pytest.raises(AttributeError, match="Normal has no on_prepared of its own any more"):
        Patch().set(Normal, "on_prepared", None)


@pytest.mark.parametrize("it", CATALOGUE.values(), ids=list(CATALOGUE))
def test_it_says_what_it_is(it: Mutant) -> None:
    """A sentence, a rule, a source and an oracle; whoever says that nobody can notice it names a pair and a reason."""
    assert it.what.endswith(".")
    assert it.breaks
    assert it.source
    assert it.expects
    assert bool(it.equivalent) == bool(it.pair)
    if it.pair:
        assert not CATALOGUE[it.pair].equivalent


def test_the_catalogue_covers_the_protocol() -> None:
    """Every load-bearing rule has its mutant; so has every trap, or it is said why not."""
    assert all(not CATALOGUE[name].equivalent for name in LOAD_BEARING.values())
    without = {trap for trap, names in trap_mutants(list(CATALOGUE.values())).items() if not names}
    assert without == set(NOT_YET_APPLICABLE) <= set(TRAPS)
    assert sum(not it.equivalent for it in CATALOGUE.values()) >= 60


# --- Without asserts -------------------------------------------------------------------------------------


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _asserts_in(function: Callable[..., object]) -> bool:
    assert isinstance(function, types.FunctionType)
    codes = _codes(function.__code__)
    return any("ASSERTION" in f"{it.opname} {it.argrepr}".upper() for code in codes for it in get_instructions(code))


def _functions_of_the_core() -> list[types.FunctionType]:
    owners: list[object] = [replica.Replica, Normal, page]
    return [it for owner in owners for it in vars(owner).values() if isinstance(it, types.FunctionType)]


def test_the_asserts_of_the_core_go_and_come_back() -> None:
    """Meanwhile no function of the core has any; the simulator keeps its own."""
    asserting = {it for it in _functions_of_the_core() if _asserts_in(it)}
    assert replica.Replica.invariants in asserting
    with without_asserts():
        assert not any(map(_asserts_in, asserting))
        assert _asserts_in(History.end)
    assert all(map(_asserts_in, asserting))


def test_runs_are_the_same_without_asserts() -> None:
    """Nothing but the checks is gone."""
    with without_asserts():
        bare = run_seed(3)
    assert bare == run_seed(3)


def test_a_core_without_asserts_does_not_stop() -> None:
    """Neither does it say that its state is impossible; a disk that lost its vote is another matter."""
    state = State(Options())
    with without_asserts():
        state.fatal("divergence", "")
        assert not state.outputs
        state.fatal("identity_refused", "")
        assert state.outputs


@pytest.mark.parametrize("name", ["later-release-next-to-an-earlier-one", "earlier-release-in-a-log-of-a-later-one"])
def test_a_core_without_asserts_does_not_speak_what_it_does_not_know(name: str) -> None:
    """To stop at an op of an unknown release is a rule, not a check of one."""
    with without_asserts():
        assert play_silently(name, "vsr") is None


# --- Hunting ---------------------------------------------------------------------------------------------


@mutant(breaks="nothing", source="this test", expects=("none",))
def _harmless(patch: Patch) -> None:
    """The same as before."""
    patch.set(Normal, "heartbeat", Normal.heartbeat)


@mutant(breaks="everything", source="this test", expects=("none",))
def _raising(patch: Patch) -> None:
    """The core raises something."""

    def wrong(_self: Normal) -> None:
        raise LookupError

    patch.set(Normal, "heartbeat", wrong)


def test_equal_budgets_give_equal_verdicts() -> None:
    """The same seeds in the same worlds, and so the same find."""
    one, other = (hunt(acknowledge_before_durable.name, FEW) for _ in range(2))
    assert one.is_found
    assert one.shipped.catch == other.shipped.catch == one.without_asserts.catch
    assert one.shipped.runs == other.shipped.runs


def test_what_only_the_core_notices_counts_apart() -> None:
    """An exception of the core is no oracle: it ends the hunt through the shipped code, and not the other one."""
    shipped = look(FEW, asserts=True, mutants=(_raising,))
    assert shipped.catch is not None
    assert not shipped.catch.is_by_oracle
    bare = look(FEW, asserts=False, mutants=(_raising,))
    assert (bare.catch, bare.runs) == (None, FEW.seeds)
    verdict = Verdict(mutant=_raising, shipped=shipped, without_asserts=bare, is_alive=True)
    assert verdict.status == "found by the core alone"
    assert not Score(verdicts=(verdict,), clean=()).is_complete


def test_nothing_is_found_where_nothing_is() -> None:
    """A mutant that changes nothing is missed; and so is none at all."""
    assert look(FEW, asserts=True, mutants=(_harmless,)).catch is None
    assert look(FEW, asserts=False).catch is None


def test_the_budget_ends_a_hunt() -> None:
    """By CPU time, too."""
    times = iter(range(0, 1000, 10))
    found = look(attrs.evolve(FEW, cpu_seconds=15.0), asserts=True, clock=lambda: next(times))
    assert found.runs == 1


def test_an_equivalent_mutant_needs_its_pair() -> None:
    """The argument counts for as long as what is planted with the other protection gone is found."""
    nothing = Find(catch=None, runs=1, cpu_seconds=1.0)
    single = CATALOGUE["no-duplicate-check-at-apply"]
    pair = CATALOGUE[single.pair]
    alone = Verdict(mutant=single, shipped=nothing, without_asserts=nothing, is_alive=True)
    missed = Verdict(mutant=pair, shipped=nothing, without_asserts=nothing, is_alive=True)
    assert alone.status == "equivalent"
    assert Score(verdicts=(alone, missed), clean=()).unpaired == [single.name]
    catch = Catch(rule="INV-18", text="", where="", is_by_oracle=True, profile="all", seed=1)
    caught = attrs.evolve(nothing, catch=catch)
    found = attrs.evolve(missed, shipped=caught, without_asserts=caught)
    assert Score(verdicts=(alone, found), clean=(nothing, nothing)).is_complete
    assert not Score(verdicts=(alone, found), clean=(nothing, caught)).is_complete


# --- Mutants of somebody's own --------------------------------------------------------------------------


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    """Its mutants are hunted like ours, in another process as well."""
    file = tmp_path / "own.py"
    file.write_text(OWN)
    result = score(["acknowledge-at-once"], attrs.evolve(FEW, shrink_seconds=2.0), source=file, jobs=2)
    (verdict,) = result.verdicts
    assert verdict.is_found
    assert verdict.events > 0
    assert result.is_complete


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no mutant in it"),
        ("import nothing_like_it", "ModuleNotFoundError"),
        (OWN.replace("acknowledge_at_once", "acknowledge_before_durable"), "choose another"),
        (OWN.replace("source=", 'equivalent="so", pair="nobody", source='), "no mutant 'nobody' to be its pair"),
    ],
)
def test_a_file_that_will_not_do(tmp_path: Path, text: str, told: str) -> None:
    """What is wrong is said, with the file."""
    file = tmp_path / "own.py"
    file.write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        from_file(file)
    assert str(file) in str(caught.value)


def test_names_that_are_not_there(tmp_path: Path) -> None:
    """Neither as a mutant nor as a file."""
    with pytest.raises(ConfigError, match="there is no mutant 'x'"):
        find("x")
    with pytest.raises(ConfigError, match="no such file"):
        from_file(tmp_path / "own.py")
