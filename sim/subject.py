"""What a run is about: the state machine that is replicated, and what clients ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from trio_pb.app.machine import StateMachine

if TYPE_CHECKING:
    from sim.shape import WorkloadPlan

__all__ = ["Asked", "Asker", "Subject"]


class Asked(NamedTuple):
    """One command or query of a client."""

    code: int
    body: bytes
    is_read: bool
    customer: int = 0  # For people, where there are customers.
    here: bool = False  # A read that any replica may answer.


class Asker(Protocol):
    """Thinks up what one client asks, one thing after the other."""

    def ask(self, token: int, bits: int) -> Asked:
        """Return the next one; `token` is unique in the run, `bits` are 64 random bits."""
        ...


class Subject(Protocol):
    """A kind of state machine with its clients. The machine itself, run sequentially, is the model of its runs."""

    @property
    def scan_code(self) -> int | None:
        """The query whose pages clients follow to the end; None if there is none."""
        ...

    def new_machine(self) -> StateMachine:
        """Return a machine in its first state: that of a replica, or of the model."""
        ...

    def asker(self, client: int, plan: WorkloadPlan) -> Asker:
        """Return what decides for client number `client`."""
        ...

    def probe(self) -> Asked | None:
        """Return a read that waits at primaries which are led into ambushes; None if there are no reads."""
        ...

    def corrupt(self, machine: StateMachine) -> None:
        """Let the state in memory go wrong, where no request and no read of a run looks."""
        ...
