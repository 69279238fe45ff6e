"""The base of state machines: dispatch by code, rejections as results, bugs that stop the replica."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from trio_pb import canonical
from trio_pb.app.blob import Blob
from trio_pb.app.machine import (
    Page,
    Question,
    RejectedError,
    StateMachine,
    command,
    decode_result,
    encode_value,
    query,
)
from trio_pb.app.parts import Part
from trio_pb.errors import RemoteProtocolError, SnapshotGoneError

CLIENT = b"c" * 16


class Counter(StateMachine):
    """Adds the size of each body."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.seen: list[tuple[int, int, bytes, int]] = []

    @command(2)
    def add(self, body: bytes, client: bytes, timestamp: int) -> bytes:
        """Add the size of the body; an empty one is refused, "bug" is one."""
        if not body:
            raise RejectedError("bad_field", "body", "must not be empty")
        if body == b"bug":
            raise KeyError(body)
        self.seen.append((self.op, self.index, client, timestamp))
        self.total += len(body)
        return encode_value(self.total)

    @query(2)
    def total_now(self, question: Question) -> Page:
        """Answer the total; a cursor is of no use here."""
        if question.cursor:
            raise SnapshotGoneError("no")
        return Page(encode_value([self.total, question.op, question.connection, question.now_tick]))

    def parts(self) -> Sequence[Part]:
        """All state is one number."""
        return [Blob(encode=lambda: canonical.encode(self.total), decode=decode_total, adopt=self.set_total)]

    def set_total(self, total: int) -> None:
        """Take a restored total."""
        self.total = total


def decode_total(data: bytes) -> int:
    """Return the total that `data` encodes; ValueError for any other bytes."""
    total = canonical.decode(data)
    if type(total) is not int or total < 0:
        raise ValueError("not a total")
    return total


class Doubler(Counter):
    """A Counter whose command counts twice, with one more query."""

    @command(2)
    def add(self, body: bytes, client: bytes, timestamp: int) -> bytes:
        """Add twice."""
        super().add(body, client, timestamp)
        return super().add(body, client, timestamp)

    @query(3)
    def half(self, question: Question) -> Page:
        """Answer half the total."""
        return Page(encode_value([self.total // 2, question.op]))


def test_commands_see_their_client_and_a_time_of_their_own() -> None:
    """Requests of one op differ in index, and their timestamps with it."""
    counter = Counter()
    results = counter.apply(7, 1000, [(0, CLIENT, 2, b"a"), (3, b"d" * 16, 2, b"bc")])
    assert [decode_result(result) for result in results] == [1, 3]
    assert counter.seen == [(7, 0, CLIENT, 1000), (7, 3, b"d" * 16, 1003)]


def test_unknown_codes_and_refusals_are_results() -> None:
    """What cannot be executed is answered by name, in its place, and changes nothing."""
    counter = Counter()
    unknown, refused, done = counter.apply(1, 0, [(0, CLIENT, 99, b"a"), (1, CLIENT, 2, b""), (2, CLIENT, 2, b"a")])
    assert canonical.decode(unknown) == [1, "unknown_code", "code", "there is no command with code 99"]
    assert canonical.decode(refused) == [1, "bad_field", "body", "must not be empty"]
    assert decode_result(done) == 1


def test_a_bug_in_a_handler_is_not_a_result() -> None:
    """Any other exception goes through: replicas that guess on would part ways."""
    with pytest.raises(KeyError):
        Counter().apply(1, 0, [(0, CLIENT, 2, b"bug")])


def test_an_op_is_applied_once_and_in_order() -> None:
    """Applying an op again, or an earlier one, is a bug of the caller."""
    counter = Counter()
    counter.apply(5, 0, [])
    for op in (5, 4):
        with pytest.raises(AssertionError, match="once"):
            counter.apply(op, 0, [(0, CLIENT, 2, b"a")])


def test_queries_answer_by_token() -> None:
    """Answers keep the order and tokens of the questions; errors do not disturb the others."""
    counter = Counter()
    counter.apply(1, 0, [(0, CLIENT, 2, b"abc")])
    answers = counter.query(4, 50, [(11, 6, 2, b"", b""), (12, 6, 9, b"", b""), (13, 6, 2, b"", b"x")])
    assert answers[0] == (11, encode_value([3, 4, 6, 50]), b"", "")
    assert canonical.decode(answers[1][1]) == [1, "unknown_code", "code", "there is no query with code 9"]
    assert answers[2] == (13, b"", b"", "snapshot_gone")


def test_a_subclass_overrides_and_adds_handlers_without_touching_its_base() -> None:
    """Tables are per class."""
    doubler, counter = Doubler(), Counter()
    assert decode_result(doubler.apply(1, 0, [(0, CLIENT, 2, b"abc")])[0]) == 6
    assert decode_result(doubler.query(1, 0, [(1, 1, 3, b"", b"")])[0][1]) == [3, 1]
    assert decode_result(counter.apply(1, 0, [(0, CLIENT, 2, b"abc")])[0]) == 3
    assert "unknown_code" in str(canonical.decode(counter.query(1, 0, [(1, 1, 3, b"", b"")])[0][1]))


def test_two_handlers_of_one_code_are_refused_when_the_class_is_made() -> None:
    """A second command with the same code would silently hide the first."""
    with pytest.raises(AssertionError, match="two handlers of code 2"):

        class Broken(Counter):  # pyright: ignore[reportUnusedClass] -- its making is the test
            @command(2)
            def other(self, body: bytes, client: bytes, timestamp: int) -> bytes:
                raise NotImplementedError


@pytest.mark.parametrize("code", [0, 1, 1 << 16])
def test_codes_of_the_replication_core_are_not_for_commands(code: int) -> None:
    """0 is the empty request and 1 register."""
    with pytest.raises(AssertionError):
        command(code)


def test_a_rejection_travels_whole() -> None:
    """The client gets name, field and text back as an exception."""
    result = Counter().apply(1, 0, [(0, CLIENT, 2, b"")])[0]
    with pytest.raises(RejectedError) as caught:
        decode_result(result)
    assert (caught.value.name, caught.value.field, caught.value.text) == ("bad_field", "body", "must not be empty")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        *map(canonical.encode, ([], [0], [2, 0], [1, "name", "field"], [1, "n", "f", 0], 0, None)),
        *map(canonical.encode, ([False, 5], [True, "name", "field", "text"])),
    ],
)
def test_other_bytes_are_no_result(data: bytes) -> None:
    """A replica that answers nonsense broke the protocol; nothing else is raised."""
    with pytest.raises(RemoteProtocolError):
        decode_result(data)
