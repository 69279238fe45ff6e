"""The session table against a naive model, and its rules one by one (PROTOCOL 5.4).

The model keeps every reply for ever and sorts whenever it must choose; the table has bounds and an order.
"""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.bench import chain, client, echo, register_order
from trio_pb import canonical
from trio_pb.core.messages import CODE_EMPTY, CODE_REGISTER
from trio_pb.core.prepare import OrderedRequest, Prepare
from trio_pb.core.sessions import Outcome, OutcomeKind, SessionTable

WINDOW = 3
SESSIONS_MAX = 3


def order(by: int, session: int, number: int, *, code: int = 2, body: bytes = b"x") -> OrderedRequest:
    """One request of a batch."""
    return OrderedRequest(client(by), session, number, code, body)


def execute(
    table: SessionTable, after: Prepare | None, requests: list[OrderedRequest]
) -> tuple[Prepare, list[Outcome]]:
    """Order, plan, execute and resolve one batch; returns the op and what became of each request."""
    prepare = chain(1, after=after, requests=requests)[0]
    items = table.plan(prepare, prepare.requests())
    return prepare, table.resolve(prepare.op, [echo(item.body) for item in items])


# --- Against the model ------------------------------------------------------------------------------


@attrs.define(eq=False)
class ModelSession:
    """One session, with every reply it ever got."""

    session: int
    last_op: int
    replies: list[bytes] = attrs.field(factory=list[bytes])  # Of number 1, 2, ...


class Model:
    """PROTOCOL 5.4, read literally."""

    def __init__(self) -> None:
        self.sessions: dict[int, ModelSession] = {}

    def execute(self, op: int, requests: list[OrderedRequest]) -> list[tuple[OutcomeKind, bytes | None]]:
        """What must become of each request of a batch."""
        return [self.one(op, index, request) for index, request in enumerate(requests)]

    def one(self, op: int, index: int, request: OrderedRequest) -> tuple[OutcomeKind, bytes | None]:
        """What must become of one request."""
        by = request.client[0]
        entry = self.sessions.get(by)
        if request.code == CODE_REGISTER:
            kind = OutcomeKind.REPLAYED
            if entry is None:
                kind = OutcomeKind.EXECUTED
                if len(self.sessions) == SESSIONS_MAX:
                    least = min(self.sessions, key=lambda by: (self.sessions[by].last_op, self.sessions[by].session))
                    del self.sessions[least]
                entry = self.sessions[by] = ModelSession(op * 65536 + index, op)
            return kind, canonical.encode(entry.session)
        if entry is None or entry.session != request.session:
            return OutcomeKind.NO_SESSION, None
        last = len(entry.replies)
        if request.number > last + 1:
            return OutcomeKind.GAP, None
        if request.number <= last:
            is_kept = request.number > last - WINDOW
            return (
                (OutcomeKind.REPLAYED, entry.replies[request.number - 1]) if is_kept else (OutcomeKind.FORGOTTEN, None)
            )
        entry.replies.append(b"" if request.code == CODE_EMPTY else echo(request.body))
        entry.last_op = op
        return OutcomeKind.EXECUTED, entry.replies[-1]


@attrs.frozen
class Wish:
    """A request relative to what its client knows: so that most are nearly right."""

    by: int
    code: int
    ahead: int  # Number, relative to the next one.
    wrong_session: bool


WISHES = st.builds(
    Wish,
    by=st.integers(1, 5),
    code=st.sampled_from([CODE_REGISTER, CODE_EMPTY, 2, 2, 2, 2]),
    ahead=st.sampled_from([0, 0, 0, 0, -1, -2, -5, 1]),
    wrong_session=st.sampled_from([False] * 9 + [True]),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.lists(WISHES, min_size=1, max_size=4), min_size=5, max_size=25))
def test_session_table_does_what_the_model_does(batches: list[list[Wish]]) -> None:
    """Executed once and in order, kept replies as first given, the least recently used session goes."""
    table, model = SessionTable(SESSIONS_MAX, WINDOW), Model()
    last: Prepare | None = None
    for place, batch in enumerate(batches):
        requests: list[OrderedRequest] = []
        asked: dict[int, int] = {}
        for wish in batch:
            known = model.sessions.get(wish.by)
            next_number = len(known.replies) + 1 + asked.get(wish.by, 0) if known is not None else 1
            session = (known.session if known is not None else 7) + wish.wrong_session
            if wish.code == CODE_REGISTER:
                requests.append(register_order(wish.by))
                continue
            number = max(1, next_number + wish.ahead)
            asked[wish.by] = asked.get(wish.by, 0) + (wish.ahead == 0)
            requests.append(order(wish.by, session, number, code=wish.code, body=b"%d" % place))
        last, outcomes = execute(table, last, requests)
        expected = model.execute(last.op, requests)
        got = [(outcome.kind, outcome.reply.result if outcome.reply is not None else None) for outcome in outcomes]
        assert got == expected
        assert len(table) == len(model.sessions) <= SESSIONS_MAX
        for by, entry in model.sessions.items():
            assert (table.session_of(client(by)), table.last_number(client(by))) == (entry.session, len(entry.replies))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=15), st.data())
def test_pipelining_to_the_state_machine_changes_nothing(batches: list[list[int]], data: st.DataObject) -> None:
    """INV-20: results may come late, in any grouping; table, replies and digest are the same."""
    at_once, late = SessionTable(SESSIONS_MAX, WINDOW), SessionTable(SESSIONS_MAX, WINDOW)
    last: Prepare | None = None
    numbers: dict[int, int] = {}
    unresolved: list[tuple[int, list[bytes]]] = []
    for clients in batches:
        requests: list[OrderedRequest] = []
        for by in clients:
            session = at_once.session_of(client(by))
            numbers[by] = numbers.get(by, 0) + 1 if session is not None else 0
            requests.append(register_order(by) if session is None else order(by, session, numbers[by]))
        last, _ = execute(at_once, last, requests)
        items = late.plan(last, last.requests())
        unresolved.append((last.op, [echo(item.body) for item in items]))
        for _ in range(data.draw(st.integers(0, len(unresolved)))):
            late.resolve(*unresolved.pop(0))
    for op, results in unresolved:
        late.resolve(op, results)
    assert late.digest() == at_once.digest()


# --- Rules by name ----------------------------------------------------------------------------------


def test_5_4_a_session_is_named_by_op_and_place() -> None:
    """Session = op * 2^16 + index in the batch; the reply tells it."""
    table = SessionTable(8, 8)
    _, outcomes = execute(table, chain(1)[0], [register_order(1), register_order(2)])
    assert table.session_of(client(2)) == (2 << 16) + 1
    assert outcomes[1].reply is not None
    assert canonical.decode(outcomes[1].reply.result) == (2 << 16) + 1


def test_5_4_registering_twice_gives_the_same_session() -> None:
    """A repeated registration is answered with the first one's receipt."""
    table = SessionTable(8, 8)
    first, one = execute(table, None, [register_order(1)])
    _, two = execute(table, first, [register_order(1)])
    assert two[0].kind is OutcomeKind.REPLAYED
    assert two[0].reply == one[0].reply


def test_5_4_a_request_has_its_own_timestamp() -> None:
    """Request i of a batch has the timestamp of the prepare plus i."""
    table = SessionTable(8, 8)
    prepare, outcomes = execute(table, None, [register_order(1), register_order(2)])
    assert [outcome.reply.timestamp for outcome in outcomes if outcome.reply is not None] == [
        prepare.timestamp,
        prepare.timestamp + 1,
    ]


def test_5_4_an_empty_request_fills_its_number_without_executing() -> None:
    """Code 0 takes a number so that the next one can go on; the state machine never sees it."""
    table = SessionTable(8, 8)
    first, _ = execute(table, None, [register_order(1)])
    session = table.session_of(client(1)) or 0
    second = chain(1, after=first, requests=[order(1, session, 1, code=CODE_EMPTY), order(1, session, 2)])[0]
    items = table.plan(second, second.requests())
    assert [item.position for item in items] == [1]
    assert [outcome.kind for outcome in table.resolve(second.op, [b"r"])] == [OutcomeKind.EXECUTED] * 2


def test_5_4_a_number_twice_in_one_batch_executes_once() -> None:
    """INV-18: a duplicate beside its original gets the original's reply."""
    table = SessionTable(8, 8)
    first, _ = execute(table, None, [register_order(1)])
    session = table.session_of(client(1)) or 0
    _, outcomes = execute(table, first, [order(1, session, 1), order(1, session, 1, body=b"forged")])
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.EXECUTED, OutcomeKind.REPLAYED]
    assert outcomes[1].reply == outcomes[0].reply


def test_t_21_eviction_by_last_op_then_session() -> None:
    """Of sessions last used by the same op the older one goes, whatever the order of use within the op."""
    table = SessionTable(2, 8)
    first, _ = execute(table, None, [register_order(1), register_order(2)])
    one, two = (table.session_of(client(by)) or 0 for by in (1, 2))
    second, _ = execute(table, first, [order(2, two, 1), order(1, one, 1)])  # Used in the opposite order.
    execute(table, second, [register_order(3)])
    assert table.session_of(client(1)) is None
    assert table.session_of(client(2)) == two


def test_t_21_use_postpones_eviction_and_replay_does_not() -> None:
    """Only an executed number counts as use: all replicas see the same."""
    table = SessionTable(2, 8)
    first, _ = execute(table, None, [register_order(1)])
    second, _ = execute(table, first, [register_order(2)])
    one = table.session_of(client(1)) or 0
    third, _ = execute(table, second, [order(1, one, 1)])
    fourth, _ = execute(table, third, [register_order(2)])  # A replayed registration.
    execute(table, fourth, [register_order(3)])
    assert table.session_of(client(1)) == one
    assert table.session_of(client(2)) is None


def test_5_4_a_replayed_number_whose_reply_is_gone_is_forgotten() -> None:
    """Executed before, so never again; what it was answered nobody knows any more."""
    table = SessionTable(8, 2)
    last, _ = execute(table, None, [register_order(1)])
    session = table.session_of(client(1)) or 0
    for number in (1, 2, 3):
        last, _ = execute(table, last, [order(1, session, number)])
    _, outcomes = execute(table, last, [order(1, session, 1)])
    assert (outcomes[0].kind, outcomes[0].reply) == (OutcomeKind.FORGOTTEN, None)
