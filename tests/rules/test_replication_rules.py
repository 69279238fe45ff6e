"""Whatever the order of steps, the shipped cores keep their promises; cores that lack a rule are found out.

`TRIO_PB_RULES_EXAMPLES=20000` tries that many others instead, each up to 100 steps long; Hypothesis then draws anew in
every run, and keeps what failed in `.hypothesis`.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings, stateful
from hypothesis.database import DirectoryBasedExampleDatabase

from sim.exhaust.disk import Kept
from sim.mutants.catalogue import find
from sim.oracles.facts import Violation
from tests.rules.machine import PowerLoss, ReplicationRules
from tests.rules.platter import Left

EXAMPLES = int(os.environ.get("TRIO_PB_RULES_EXAMPLES", "0"))
QUICK = settings(
    max_examples=100,
    stateful_step_count=50,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
LONG = settings(
    QUICK,
    max_examples=max(EXAMPLES, 1),
    stateful_step_count=100,
    derandomize=False,
    database=DirectoryBasedExampleDatabase(".hypothesis/rules"),
)


def run_rules(rules: type[ReplicationRules], how: settings) -> None:
    """Let Hypothesis play."""
    stateful.run_state_machine_as_test(rules, settings=how)  # pyright: ignore[reportUnknownMemberType] -- untyped there


def test_any_order_of_steps_keeps_the_promises() -> None:
    """Messages in any order, crashes, rot: no oracle objects, and at the end all are answered and equal."""
    run_rules(ReplicationRules, LONG if EXAMPLES else QUICK)


# Rules that, taken out of the shipped code, some example must show, and the oracles that may object.
FOUND = {
    "small-replication-quorum": {"INV-11"},  # Quorums.
    "small-view-change-quorum": {"INV-13"},
    "view-not-durable": {"INV-4"},  # View change.
    "forget-acknowledgements-at-install": {"INV-29", "INV-13"},
    "restarted-primary-resumes": {"INV-5"},  # Restart.
    "unreadable-is-ignored": {"INV-33"},  # Repair.
    "no-duplicate-check": {"INV-18"},  # Sessions.
    "unconfirmed-reads": {"INV-23", "no session"},  # Reads.
}


@pytest.mark.parametrize("name", sorted(FOUND))
def test_a_rule_taken_out_is_found(name: str) -> None:
    """The same rules over code that lacks one of its own: some example breaks a promise."""

    class Bugged(ReplicationRules):
        bug = find(name)

    # Nothing is shrunk or remembered: that there is such an example, usually in the first twenty, is all.
    search = settings(QUICK, max_examples=400, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises(Violation) as caught:
        run_rules(Bugged, search)
    assert caught.value.rule in FOUND[name]


def test_a_failure_tells_what_happened() -> None:
    """Steps in the words of the protocol, and below each what the replicas said and did."""

    class Bugged(ReplicationRules):
        bug = find("restarted-primary-resumes")

    rules = Bugged()
    primary = rules.world.seats[1]
    try:
        rules.place(rules.world.people[0], primary, is_late=False)
        rules.deliver(rules.world.post.waiting[0])
        with pytest.raises(Violation) as caught:
            rules.crash(PowerLoss.of(primary, Left(Kept(0, (True,), False), 0)), stays_down=False)
    finally:
        rules.teardown()
    assert caught.value.__notes__ == [
        """What happened:
  C0 places an order at R1
      R1 > R0 and R2: prepare[1] op 3, commit 2
      R1 hands its journal op 3 and a proof of op 3
  <prepare[1] op 3, commit 2 R1>R0> arrives
      R0 hands its journal op 3 and a proof of op 3
  R1 loses power; of what was being written its disk has op 3 without proof; it starts again"""
    ]
