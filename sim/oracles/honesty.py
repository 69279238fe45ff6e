"""Beyond the fault model: what a client heard is right, though it may have heard nothing (G6).

Liveness is not owed, and what is truly gone cannot be kept. As long as every disk remembers what it
promised, or knows that it does not, all that clients heard is judged as always. Once one took back a promise
without knowing, a committed op may be lost and another take its place: no replica can tell (PROTOCOL 7.4). What
clients heard of ops below the first such place must still be right.
"""

from __future__ import annotations

import attrs

from sim.oracles.facts import Facts
from sim.oracles.linearizability import check_linearizability
from sim.oracles.op_order import check_history
from sim.oracles.reference import ReferenceModel
from sim.orders import ORDERS
from sim.subject import Subject
from sim.workload import History, Operation

__all__ = ["demand_honesty"]


def demand_honesty(facts: Facts, fork: int | None, history: History, sessions_max: int, subject: Subject) -> bool:
    """Judge what clients heard; return whether the history was decided within its budget.

    Raises:
        Violation: INV-18, 19, 22, 23 or 24.
    """
    model = ReferenceModel(sessions_max, subject)
    for checksum in facts.committed[1:]:
        model.execute(facts.prepares[checksum])
    believed = history if fork is None else heard_below(history, fork)
    check_history(facts, believed, model)
    return subject is not ORDERS or check_linearizability(believed)


def heard_below(history: History, fork: int) -> History:
    """The same history, as if no answer had come from `fork` or above."""
    believed = History()
    copies: dict[int, Operation] = {}
    for operation in history.moments:
        copy = copies.get(operation.token)
        if copy is None:
            copy = copies[operation.token] = attrs.evolve(operation, outcome=None, ended=None)
            believed.begin(copy, operation.begun)
        elif operation.op is None or operation.op < fork:
            assert operation.outcome is not None
            assert operation.ended is not None
            believed.end(copy, operation.outcome, operation.ended)
    return believed
