"""The naive model: sessions and the machine, executed one after the other, nothing else (INV-18, 19)."""

from __future__ import annotations

import attrs

from sim.oracles.facts import Facts, violate
from sim.oracles.watch import Oracle
from sim.orders import ORDERS
from sim.subject import Subject
from trio_pb.core.messages import CODE_EMPTY, CODE_REGISTER, Reject, RejectCode, Reply
from trio_pb.core.ports import Apply, ApplyItem
from trio_pb.core.prepare import Prepare, PrepareKind

__all__ = ["ExecutedOnce", "ReferenceModel"]


@attrs.define
class _ModelSession:
    session: int
    last_number: int
    last_op: int


class ReferenceModel:
    """What the committed log means, from the beginning on (PROTOCOL 5.4)."""

    def __init__(self, sessions_max: int, subject: Subject = ORDERS) -> None:
        self.subject = subject
        self.machine = subject.new_machine()
        self.op = 0
        self.results: dict[tuple[bytes, int, int], bytes] = {}  # (client, op, number) -> first result.
        self.executed: dict[tuple[int, bytes], int] = {}  # Code and body of a command -> times executed.
        self.sessions_max = sessions_max
        self._sessions: dict[bytes, _ModelSession] = {}

    def session_of(self, client: bytes) -> int | None:
        """The session that a client holds."""
        held = self._sessions.get(client)
        return held.session if held is not None else None

    def execute(self, prepare: Prepare) -> tuple[ApplyItem, ...]:
        """Execute the next op; return the requests that reach the state machine."""
        assert prepare.op == self.op + 1, "the model executes every op, in order"
        self.op = prepare.op
        items: list[ApplyItem] = []
        owners: list[tuple[bytes, int, int]] = []
        requests = prepare.requests() if prepare.kind is PrepareKind.BATCH else ()
        for index, request in enumerate(requests):
            session = self._sessions.get(request.client)
            if request.code == CODE_REGISTER:
                if session is None:
                    self._register(request.client, prepare.op, index)
                continue
            if session is None or session.session != request.session or request.number != session.last_number + 1:
                continue
            session.last_number = request.number
            session.last_op = prepare.op
            owner = (request.client, prepare.op, request.number)
            if request.code == CODE_EMPTY:
                self.results[owner] = b""
            else:
                items.append(ApplyItem(index, request.client, request.code, request.body))
                owners.append(owner)
                asked = (request.code, request.body)
                self.executed[asked] = self.executed.get(asked, 0) + 1
        results = self.machine.apply(prepare.op, prepare.timestamp, items)
        self.results.update(zip(owners, results, strict=True))
        return tuple(items)

    def _register(self, client: bytes, op: int, index: int) -> None:
        if len(self._sessions) >= self.sessions_max:
            oldest = min(self._sessions, key=lambda c: (self._sessions[c].last_op, self._sessions[c].session))
            del self._sessions[oldest]
        self._sessions[client] = _ModelSession((op << 16) + index, 0, op)


class ExecutedOnce(Oracle):
    """INV-18 and 19: what reaches a state machine, and what clients hear, is what the model says."""

    def __init__(self, facts: Facts, sessions_max: int, subject: Subject = ORDERS) -> None:
        super().__init__(facts)
        self.model = ReferenceModel(sessions_max, subject)
        self._items: dict[int, tuple[ApplyItem, ...]] = {}

    def on_committed(self, replica: int, first: int, last: int) -> None:
        """Execute what newly committed."""
        facts = self.facts
        for op in range(first, last + 1):
            self._items[op] = self.model.execute(facts.prepares[facts.committed[op]])

    def on_apply(self, replica: int, apply: Apply) -> None:
        """Compare the requests that are about to be executed (INV-18)."""
        expected = self._items.get(apply.op)
        if expected is not None and tuple(apply.items) != expected:
            violate(
                "INV-18",
                f"R{replica} executes {len(apply.items)} requests at op {apply.op}, the model {len(expected)}",
            )

    def on_to_client(self, replica: int, message: Reply | Reject) -> None:
        """Compare the receipt of a request (INV-19), and what is said of a session (T-33)."""
        if type(message) is Reject:
            if message.code is RejectCode.NO_SESSION and self.model.session_of(message.client) == message.session:
                violate("no session", f"R{replica} declares session {message.session} gone, which nobody evicted")
            return
        # Registrations have number 0, reads have no timestamp.
        if type(message) is not Reply or message.timestamp == 0 or message.number == 0:
            return
        expected = self.model.results.get((message.client, message.op, message.number))
        if expected is None:
            violate("INV-19", f"R{replica} answers number {message.number} with op {message.op}: not executed there")
        if expected != message.result:
            violate(
                "INV-19",
                f"R{replica} answers number {message.number}, op {message.op}, otherwise than the model",
            )
