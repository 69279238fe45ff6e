"""The oracle that believes only the clients: what it is given, and what it finds without the others."""

from __future__ import annotations

import attrs
import pytest

import sim.run
from sim.experiment import run_seed
from sim.mutants.mutant import planted
from sim.mutants.reads import reads_without_an_index
from sim.oracles.facts import Violation
from sim.oracles.linearizability import calls_of, check_linearizability
from sim.oracles.read_promises import PositionsAreOwn, ReadsAreConfirmed, ReadsAreFresh
from sim.scenario import Cluster
from sim.workload import Operation
from trio_pb.app.orders import SCAN, ScanCustomers, encode_scan
from trio_pb.core.client_ports import Failure, OutcomeKind, Success

STALE_SEEDS = (7,)  # Two clients of one customer, or one that reads what it wrote, at a backup that is late.


def _believe_everything(*_: object) -> None:
    """An oracle, switched off."""


def test_a_stale_read_is_found_without_ops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backups answer from where they are; nobody looks at ops, and the clients' history still shows it."""
    monkeypatch.setattr(sim.run, "check_history", _believe_everything)
    for oracle in (PositionsAreOwn, ReadsAreFresh, ReadsAreConfirmed):
        monkeypatch.setattr(oracle, "_judge", _believe_everything)
    with planted(reads_without_an_index):
        failures = [failure for seed in STALE_SEEDS if (failure := run_seed(seed).failure) is not None]
    assert failures
    for failure in failures:
        assert failure.rule == "INV-22"
        assert "contradict each other" in failure.text
        assert "this does not fit: read -> " in failure.text


def _history_of_two() -> tuple[Cluster, Operation, Operation]:
    c = Cluster()
    order = c.order("laptop-1", customer=1).expect_reply().operation
    read = c.read(1).expect_reply().operation
    return c, order, read


def test_calls_keep_the_order_of_moments() -> None:
    """What ended before another began does so in the calls, though virtual time may stand still."""
    c, order, read = _history_of_two()
    first, second = calls_of(c.sim.history)
    assert (first.input, first.output) == (("place", 1, 1, "laptop-1", False, None), ("placed",))
    assert (second.input, second.output) == (("read", 1), (1, 1, "laptop-1"))
    read.begun = order.ended or 0
    first, second = calls_of(c.sim.history)
    assert first.end is not None
    assert first.end < second.begin


def test_outcomes_that_are_not_known() -> None:
    """Unknown may have happened, not applied has not."""
    c, order, _ = _history_of_two()
    order.outcome = Failure(OutcomeKind.UNKNOWN, "deadline", "")
    assert check_linearizability(c.sim.history)
    order.outcome = Failure(OutcomeKind.NOT_APPLIED, "deadline", "")
    with pytest.raises(Violation, match=r"INV-22(.|\n)*This call on customer 1 cannot have been answered so"):
        check_linearizability(c.sim.history)
    order.outcome = None
    assert check_linearizability(c.sim.history)


def test_an_answer_to_another_question() -> None:
    """A receipt for another order, or the record of another customer, fits nothing."""
    c, order, read = _history_of_two()
    other = c.order("laptop-2", customer=2).expect_reply().operation
    for mine, wrong in ((order, other), (read, order)):
        true_outcome, mine.outcome = mine.outcome, wrong.outcome
        with pytest.raises(Violation, match="INV-22"):
            check_linearizability(c.sim.history)
        mine.outcome = true_outcome
    assert check_linearizability(c.sim.history)


def test_pages_of_a_scan_are_one_call() -> None:
    """All pages show the state of the first, so what was placed between them must not be seen."""
    c = Cluster()
    for customer in (1, 2, 3):
        c.order(f"laptop-{customer}", customer=customer).expect_reply()
    client = c.sim.clients[0]
    first = Operation(1 << 20, client.name, SCAN, encode_scan(ScanCustomers(0, 2)), is_read=True)
    client.submit(first)
    c.run_until(lambda: first.succeeded)
    c.order("laptop-4", customer=3).expect_reply()
    assert isinstance(first.outcome, Success)
    second = attrs.evolve(
        first, token=first.token + 1, cursor=first.outcome.reply.cursor, scan=first.token, ended=None, outcome=None
    )
    client.submit(second)
    c.run_until(lambda: second.succeeded)
    scans = [call for call in calls_of(c.sim.history) if call.input == ("scan", 0)]
    assert [call.output for call in scans] == [
        (((1, 1, 1, "laptop-1"), (2, 2, 1, "laptop-2"), (3, 3, 1, "laptop-3")), None)
    ]
    assert check_linearizability(c.sim.history)
    second.outcome = None
    page = next(call for call in calls_of(c.sim.history) if call.input == ("scan", 0))
    assert page.output == (((1, 1, 1, "laptop-1"), (2, 2, 1, "laptop-2")), 2)
