"""What may not happen in an order service, judged from outside: by what clients heard and state machines executed.

Nothing here knows how replicas agree; a judge looks at answers, at the sequence of orders that each running
replica executed, and at who is up.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from sim.oracles.facts import violate

__all__ = [
    "EXECUTED_TWICE",
    "LOST",
    "NO_PROGRESS",
    "REPLICAS_DIFFER",
    "STALE_READ",
    "TWO_PRIMARIES",
    "Call",
    "Judge",
]

LOST = "acknowledged-order-lost"
EXECUTED_TWICE = "executed-twice"
REPLICAS_DIFFER = "replicas-differ"  # After the same number of orders.
STALE_READ = "stale-read"
TWO_PRIMARIES = "two-primaries"  # Acknowledge two orders at one position, both at work.
NO_PROGRESS = "no-progress"


@attrs.define(eq=False)
class Call:
    """One request of a client, from its first sending to its answer."""

    client: str
    number: int  # The client's count.
    customer: int
    laptop: str | None  # None: a read. Every order of a run is of a laptop of its own, so it names the order.
    begun: int = 0  # Moments as the judge counts them: beginnings and answers, one after the other.
    ended: int | None = None
    replica: int | None = None  # That answered.

    @property
    def is_answered(self) -> bool:
        """Whether its client heard."""
        return self.ended is not None

    @property
    def is_bystander(self) -> bool:
        """Whether the script knows nothing of it."""
        return self.client.startswith("bystander")

    @property
    def text(self) -> str:
        """Which it is, for people."""
        return f"the order of {self.laptop}" if self.laptop is not None else f"the read of customer {self.customer}"


@attrs.frozen
class _Claim:
    replica: int
    laptop: str


class Judge:
    """All judges of a run; each names the rule that was broken (`Violation.rule`)."""

    def __init__(self, replicas: int, leads: Callable[[int], bool]) -> None:
        """`leads` tells whether a replica is up and takes itself for the primary."""
        self.executed: list[list[str] | None] = [[] for _ in range(replicas)]  # None: it is down.
        self.acknowledged: list[Call] = []
        self._claims: dict[int, _Claim] = {}  # By position, the first acknowledgement of an order there.
        self._moment = 0
        self._leads = leads

    # --- What replicas do -----------------------------------------------------------------------

    def started(self, replica: int) -> None:
        """A replica starts: its state machine has executed nothing."""
        self.executed[replica] = []

    def crashed(self, replica: int) -> None:
        """A replica dies, and its state machine with it."""
        self.executed[replica] = None

    def applied(self, replica: int, laptop: str) -> None:
        """A replica's state machine executed an order."""
        executed = self.executed[replica]
        assert executed is not None, "a replica that is down does nothing"
        if laptop in executed:
            violate(EXECUTED_TWICE, f"R{replica} executes the order of {laptop}, which it has executed before")
        executed.append(laptop)

    def replied(self, replica: int, position: int, laptop: str) -> None:
        """A replica acknowledges an order, which it says stands at `position`."""
        claim = self._claims.setdefault(position, _Claim(replica, laptop))
        if claim.laptop != laptop and claim.replica != replica and self._leads(claim.replica):
            violate(
                TWO_PRIMARIES,
                f"R{replica} acknowledges {laptop} as order {position}, R{claim.replica} acknowledged"
                f" {claim.laptop} as order {position}, and both lead",
            )

    def stepped(self, replica: int) -> None:
        """A replica is done with one step: all that ran as far must have executed the same."""
        executed = self.executed[replica]
        assert executed is not None, "a replica that is down does nothing"
        for other, others in enumerate(self.executed):
            if others is None or other == replica:
                continue
            count = min(len(executed), len(others))
            if executed[:count] != others[:count]:
                at = next(index for index in range(count) if executed[index] != others[index])
                violate(
                    REPLICAS_DIFFER,
                    f"as order {at + 1} R{replica} executed {executed[at]}, R{other} executed {others[at]}",
                )

    # --- What clients hear ----------------------------------------------------------------------

    def asked(self, call: Call) -> None:
        """A client begins a request."""
        self._moment += 1
        call.begun = self._moment

    def answered(self, call: Call, replica: int, laptops: tuple[str, ...]) -> None:
        """A client hears a replica's answer, and with it what its customer ordered so far."""
        self._moment += 1
        call.ended, call.replica = self._moment, replica
        missing = self._missing(call, laptops)
        if missing is not None:
            before = f"R{missing.replica} acknowledged {missing.laptop} to {missing.client}"
            if call.laptop is None:
                violate(
                    STALE_READ,
                    f"{before}; later {call.client} reads customer {call.customer}, and R{replica} shows no"
                    f" {missing.laptop}",
                )
            violate(
                LOST,
                f"{before}; later {call.client} orders {call.laptop} for the same customer, and R{replica} has no"
                f" {missing.laptop}",
            )
        if call.laptop is not None:
            self.acknowledged.append(call)

    def _missing(self, call: Call, laptops: tuple[str, ...]) -> Call | None:
        for earlier in self.acknowledged:
            assert earlier.ended is not None
            if earlier.customer == call.customer and earlier.ended < call.begun and earlier.laptop not in laptops:
                return earlier
        return None

    # --- The end --------------------------------------------------------------------------------

    def finish(self) -> None:
        """All is quiet: whatever was acknowledged is everywhere."""
        for replica, executed in enumerate(self.executed):
            for call in self.acknowledged:
                if executed is not None and call.laptop not in executed:
                    before = f"R{call.replica} acknowledged {call.laptop} to {call.client}"
                    violate(LOST, f"{before}; in the end R{replica} has no such order")
