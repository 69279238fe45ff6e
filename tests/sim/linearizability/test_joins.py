"""Scans join customers: a moment for each is found where there is one, and never where there is none."""

from __future__ import annotations

from random import Random

from sim.linearizability import UNKNOWN, Call, Verdict
from sim.linearizability.joins import agree, joined_calls, joint_parts
from sim.linearizability.models.orders import PLACED, Orders
from sim.linearizability.search import search

MODEL = Orders()
BUDGET_STEPS = 1_000_000
NOTHING = (-1, 0, "")
RUNS = 2000
CALLS_MAX = 9


def call(begin: int, end: int | None, asked: tuple[object, ...], answered: object, hint: int | None = None) -> Call:
    """One call."""
    return Call(process="c", begin=begin, end=end, input=asked, output=answered, hint=hint)


def decided(calls: list[Call]) -> tuple[bool, bool] | None:
    """Whether moments for all scans are found, and whether there are any; None where that is no question."""
    partitions = MODEL.split(calls)
    found = {key: search(MODEL, parts, BUDGET_STEPS) for key, parts in partitions.items()}
    joined = joined_calls(partitions)
    if not joined or any(it.verdict is not Verdict.LINEARIZABLE for it in found.values()):
        return None
    orders = {key: it.order for key, it in found.items()}
    model, parts = joint_parts(MODEL, partitions, joined)
    verdict = search(model, parts, BUDGET_STEPS).verdict
    assert verdict is not Verdict.UNKNOWN
    return agree(MODEL, partitions, orders, joined, BUDGET_STEPS), verdict is Verdict.LINEARIZABLE


def test_a_read_beside_a_scan_does_not_make_it_later() -> None:
    """The second scan may stand before the order, though a read that began after it is placed before the scan."""
    assert decided(
        [
            call(3, 34, ("scan", 0), ((), None), hint=1),
            call(12, 51, ("scan", 0), ((), None)),
            call(32, 35, ("place", 2, 1, "x", False, None), PLACED),
            call(41, 66, ("read", 1), NOTHING, hint=4),
        ]
    ) == (True, True)


def test_scans_of_one_state_may_stand_either_way() -> None:
    """Customers whose orders have them the other way round do not contradict each other."""
    assert decided(
        [
            call(-5, 12, ("read", 1), NOTHING),
            call(-7, 42, ("scan", 0), ((), None)),
            call(-2, 44, ("place", 2, 1, "x", False, None), PLACED),
            call(10, 63, ("scan", 0), (((2, 1, 1, "x"),), None), hint=3),
        ]
    ) == (True, True)


def test_an_answer_that_fits_later_as_well_does_not_make_a_scan_later() -> None:
    """The rejected order began after the scan must have happened; it was placed before an order that the scan sees."""
    assert decided(
        [
            call(0, 1, ("place", 1, 1, "x", False, None), PLACED),
            call(15, 50, ("place", 1, 2, "x", False, None), PLACED, hint=2),
            call(24, 60, ("place", 1, 0, "x", False, None), ("rejected", "order_number_not_above_last"), hint=1),
            call(12, 22, ("place", 2, 1, "x", False, None), PLACED),
            call(5, 40, ("scan", 0), (((1, 2, 2, "x"),), None)),
        ]
    ) == (True, True)


def test_two_scans_that_contradict_each_other() -> None:
    """One sees only Ann's order, the other only Bob's."""
    assert decided(
        [
            call(0, 90, ("place", 1, 1, "x", False, None), PLACED),
            call(0, 90, ("place", 2, 1, "x", False, None), PLACED),
            call(10, 80, ("scan", 0), (((1, 1, 1, "x"),), None)),
            call(10, 80, ("scan", 0), (((2, 1, 1, "x"),), None)),
        ]
    ) == (False, False)


def test_found_moments_are_right_and_seldom_missed() -> None:
    """Of drawn histories with all sorts of hints; what is missed, the slow search decides."""
    seen = missed = wrong = 0
    for seed in range(RUNS):
        outcome = decided(_draw(Random(seed)))
        if outcome is not None:
            found, is_linearizable = outcome
            assert is_linearizable or not found, f"seed {seed}"
            seen += is_linearizable
            missed += is_linearizable and not found
            wrong += not is_linearizable
    assert seen > 800
    assert wrong > 10
    assert missed <= seen // 500


def _draw(random: Random) -> list[Call]:
    """What two customers may have seen: a true story, except that some scans see an older state of one of them."""
    records: dict[int, tuple[int, int, str]] = {1: NOTHING, 2: NOTHING}
    calls: list[Call] = []
    for number in range(random.randint(3, CALLS_MAX)):
        begin, end = number * 10 - random.randint(0, 40), number * 10 + random.randint(0, 40)
        hint = number if random.random() < 0.6 else None
        customer = random.choice([1, 2])
        kind = random.choice(["place", "place", "read", "scan", "scan", "reject"])
        last, orders, _ = records[customer]
        if kind == "place":
            placed = orders + 1
            records[customer] = (placed, placed, "x")
            is_seen = random.random() < 0.8
            asked = ("place", customer, placed, "x", False, None)
            calls.append(call(begin, end if is_seen else None, asked, PLACED if is_seen else UNKNOWN, hint))
        elif kind == "read":
            calls.append(call(begin, end, ("read", customer), records[customer], hint))
        elif kind == "reject" and orders:
            answered = ("rejected", "order_number_not_above_last")
            calls.append(call(begin, end, ("place", customer, 0, "x", False, None), answered, hint))
        elif kind == "scan":
            shown = dict(records)
            if random.random() < 0.4:
                older = max(last - 1, 0)
                shown[customer] = (older, older, "x") if older else NOTHING
            page = tuple((it, *shown[it]) for it in (1, 2) if shown[it][1])
            calls.append(call(begin, end, ("scan", 0), (page, None), hint))
    return calls
