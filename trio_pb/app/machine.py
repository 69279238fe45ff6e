"""The base of every state machine: requests in, results out, and nothing else may matter.

A subclass marks its methods with `@command(code)` (ordered, may change state) and `@query(code)` (reads
applied state). Results are canonical CBOR: `[0, value]`, or `[1, name, field, text]` for a request that
was understood to be impossible. Such a rejection is a result like any other: every replica computes
the same one, and the state stays as it was.

A subclass also names the parts of its state (`parts`): checkpoints, state transfer and digests follow
from that. A machine with a small state needs one Blob, a large state goes into Buckets and Rings.

    class Tally(StateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.total = 0

        def parts(self) -> Sequence[Part]:
            return [Blob(encode=lambda: canonical.encode(self.total), decode=decode_total, adopt=self.set_total)]

        @command(2)
        def add(self, body: bytes, client: bytes, timestamp: int) -> bytes:
            self.total += len(body)
            return encode_value(self.total)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, NamedTuple, NoReturn, TypeVar

from trio_pb import canonical
from trio_pb.app.blob import Blob
from trio_pb.app.parts import Frozen, MalformedStateError, Part, Restoring
from trio_pb.errors import RemoteProtocolError, SnapshotGoneError, TrioPbError

__all__ = [
    "COMMAND_CODE_MIN",
    "Page",
    "Question",
    "RejectedError",
    "StateMachine",
    "command",
    "decode_array",
    "decode_result",
    "encode_rejection",
    "encode_value",
    "query",
]

LEFTOVERS_PER_OP = 32  # Pieces of a replaced state freed with each op, 50 us each at a million records.
COMMAND_CODE_MIN = 2  # 0 is the empty request and 1 register: the replication core's own (PROTOCOL 5.4).

_COMMAND = "_trio_pb_command"
_QUERY = "_trio_pb_query"


class RejectedError(TrioPbError):
    """The state machine refused a request, by name; the request changed nothing.

    A handler raises it before it changes anything; the client raises it from the result. `name` is the
    stable name of the rejection, `field` the request's field at fault (or "code", "body").
    """

    code = "rejected"

    def __init__(self, name: str, field: str, text: str) -> None:
        super().__init__(f"{name} ({field}): {text}")
        self.name = name
        self.field = field
        self.text = text


class Question(NamedTuple):
    """One query as its handler sees it."""

    op: int  # The state is that after this op.
    now_tick: int
    connection: int  # The client connection that asks.
    body: bytes
    cursor: bytes  # Empty for a first page.


class Page(NamedTuple):
    """What a query handler answers."""

    result: bytes
    cursor: bytes = b""  # To ask for the next page with; empty when this was the last.


# The handlers of one table belong to one subclass, which the table's type cannot name: hence Any.
CommandHandler = Callable[[Any, bytes, bytes, int], bytes]
QueryHandler = Callable[[Any, Question], Page]
C = TypeVar("C", bound=CommandHandler)
Q = TypeVar("Q", bound=QueryHandler)


def command(code: int) -> Callable[[C], C]:
    """Mark a method as the handler of command `code` (2..65535).

    It is called with (body, client, timestamp): the opaque request, the 16 bytes of the client and
    the request's time in nanoseconds, which is the op's plus the index in its batch. It returns result
    bytes, or raises RejectedError before it changed anything. Anything else that it raises is a
    bug, which stops the replica.
    """
    assert COMMAND_CODE_MIN <= code < 1 << 16

    def mark(method: C) -> C:
        setattr(method, _COMMAND, code)
        return method

    return mark


def query(code: int) -> Callable[[Q], Q]:
    """Mark a method as the handler of query `code` (0..65535, a code space of its own).

    It is called with a Question and answers a Page. It may raise RejectedError or SnapshotGoneError.
    """
    assert 0 <= code < 1 << 16

    def mark(method: Q) -> Q:
        setattr(method, _QUERY, code)
        return method

    return mark


class StateMachine(ABC):
    """Deterministic state, changed by commands in the order of their ops and read by queries.

    `state_version` belongs to the state: state of another version is refused. A subclass sets a higher
    one when its parts, or what their bytes mean, change.
    """

    state_version: ClassVar[int] = 1

    _commands: ClassVar[dict[int, CommandHandler]] = {}
    _queries: ClassVar[dict[int, QueryHandler]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._commands = dict(cls._commands)
        cls._queries = dict(cls._queries)
        for member in vars(cls).values():
            for mark, table in ((_COMMAND, cls._commands), (_QUERY, cls._queries)):
                code = getattr(member, mark, None)
                if code is not None:
                    known = table.get(code)  # An override has the name of what it overrides.
                    assert known is None or known.__name__ == member.__name__, f"two handlers of code {code}"
                    table[code] = member

    def __init__(self) -> None:
        self._op = 0
        self._index = 0
        self._named_parts: tuple[Part, ...] = ()  # Once they were asked for; the header is always there.
        self._leftovers: list[object] = []  # Of a replaced state.

    @classmethod
    def handler_name(cls, code: int, *, is_query: bool = False) -> str:
        """Return the name of the method that handles a command or query, for people; "" if there is none."""
        handler = (cls._queries if is_query else cls._commands).get(code)
        return "" if handler is None else handler.__name__

    @property
    def op(self) -> int:
        """The op being applied, or the last applied one that had items."""
        return self._op

    @property
    def index(self) -> int:
        """The index, within its op, of the request being applied."""
        return self._index

    def apply(self, op: int, timestamp: int, items: Sequence[tuple[int, bytes, int, bytes]]) -> tuple[bytes, ...]:
        """Execute the requests of one op; items are (index, client, code, body), results in their order."""
        assert op > self._op, f"op {op} after op {self._op}: an op is applied once, in order"
        self._op = op
        # Freeing a million records at once would take 0.2 s.
        del self._leftovers[-LEFTOVERS_PER_OP:]
        commands = self._commands
        results: list[bytes] = []
        for index, client, code, body in items:
            self._index = index
            handler = commands.get(code)
            try:
                if handler is None:
                    _raise_unknown("command", code)
                results.append(handler(self, body, client, timestamp + index))
            except RejectedError as rejection:
                results.append(encode_rejection(rejection))
        return tuple(results)

    def query(
        self, op: int, now_tick: int, items: Sequence[tuple[int, int, int, bytes, bytes]]
    ) -> tuple[tuple[int, bytes, bytes, str], ...]:
        """Answer reads of the state after `op`; items are (token, connection, code, body, cursor).

        Returns (token, result, cursor, error) each; error is "" or "snapshot_gone".
        """
        assert op >= self._op
        self.expire(now_tick)
        answers: list[tuple[int, bytes, bytes, str]] = []
        for token, connection, code, body, cursor in items:
            handler = self._queries.get(code)
            try:
                if handler is None:
                    _raise_unknown("query", code)
                page = handler(self, Question(op, now_tick, connection, body, cursor))
                answers.append((token, page.result, page.cursor, ""))
            except RejectedError as rejection:
                answers.append((token, encode_rejection(rejection), b"", ""))
            except SnapshotGoneError as gone:
                answers.append((token, b"", b"", gone.code))
        return tuple(answers)

    def expire(self, now_tick: int) -> None:  # noqa: B027 -- A machine without snapshots has none to drop.
        """Drop what idle readers left behind; called before each group of queries."""

    # --- State as a whole ---------------------------------------------------------------------

    @abstractmethod
    def parts(self) -> Sequence[Part]:
        """Return the parts that together are the state, always in this order; asked for once.

        Everything that a later result may depend on belongs to a part, except what is derived from
        parts and restored with them.
        """

    def adopted(self) -> None:  # noqa: B027 -- Most machines keep nothing that refers to the old state.
        """Let go of whatever refers to the state that was just replaced."""

    def freeze(self) -> Frozen:
        """Pin the present state for a checkpoint, at a cost that does not grow with it (PROTOCOL 9)."""
        return Frozen([part.freeze() for part in self._all_parts()])

    def restoring(self) -> Restoring:
        """Begin to restore a state beside the present one."""
        return Restoring(self._all_parts())

    def adopt(self, restoring: Restoring, op: int) -> None:
        """Make `restoring`, which is the state after `op`, the present state; open scans end.

        Raises:
            MalformedStateError: chunks are missing; nothing changed.
        """
        assert restoring.parts is self._all_parts(), "a machine adopts what it began to restore"
        self._leftovers += restoring.adopt()
        self._op = op
        self._index = 0
        self.adopted()

    def prepare_digest(self, pieces: int) -> bool:
        """Do a slice of what `digest` must do first; return whether that was all of it.

        A piece takes 0.2 ms at most, and some 20 us mostly. Writes in between make new work.
        """
        assert pieces > 0
        for part in self._all_parts():
            pieces -= part.prepare_digest(pieces)
            if pieces == 0:
                return False
        return True

    def digest(self) -> bytes:
        """Return blake2b-256 of the whole application state; equal states have equal digests."""
        return blake2b(b"".join([part.digest() for part in self._all_parts()]), digest_size=32).digest()

    def _all_parts(self) -> tuple[Part, ...]:
        if not self._named_parts:
            parts = self.parts()
            header = canonical.encode([self.state_version, len(parts)])
            self._named_parts = (Blob(encode=lambda: header, decode=_header_check(header), adopt=_nothing), *parts)
        return self._named_parts


def _header_check(expected: bytes) -> Callable[[bytes], None]:
    def check(data: bytes) -> None:
        if data != expected:
            found, here = canonical.decode(data), canonical.decode(expected)
            raise MalformedStateError(f"state of version and parts {found!r}; here it is {here!r}")

    return check


def _nothing(value: None) -> None:
    """The header says how to read the others, and changes nothing."""


def _raise_unknown(kind: str, code: int) -> NoReturn:
    raise RejectedError("unknown_code", "code", f"there is no {kind} with code {code}")


def encode_value(value: object) -> bytes:
    """Return the result bytes of a request that went through."""
    return canonical.encode([0, value])


def encode_rejection(rejection: RejectedError) -> bytes:
    """Return the result bytes of a rejection."""
    return canonical.encode([1, rejection.name, rejection.field, rejection.text])


def decode_result(data: bytes) -> canonical.Value:
    """Return the value of a result.

    Raises:
        RejectedError: the state machine refused the request.
        RemoteProtocolError: these are not the bytes of a result.
    """
    try:
        fields = canonical.decode(data)
    except canonical.CanonicalError as error:
        raise RemoteProtocolError(f"result: {error}") from error
    match fields:
        case [int(outcome), *_] if type(outcome) is not int:
            raise RemoteProtocolError("result: begins with a truth value, not with a number")
        case [0, value]:
            return value
        case [1, str(name), str(field), str(text)]:
            raise RejectedError(name, field, text)
        case _:
            raise RemoteProtocolError("result: neither [0, value] nor [1, name, field, text]")


def decode_array(body: bytes, names: str, count: int) -> list[canonical.Value]:
    """Return the `count` fields of a request body; `names` says what they are, for people.

    Raises:
        RejectedError: the body is anything else. The text does not quote the decoder, whose words may
            differ between its versions, hence between replicas.
    """
    try:
        fields = canonical.decode(body)
    except canonical.CanonicalError as error:
        raise RejectedError("malformed", "body", f"not the canonical CBOR of [{names}]") from error
    if type(fields) is not list or len(fields) != count:
        raise RejectedError("malformed", "body", f"not an array of {count}: [{names}]")
    return fields
