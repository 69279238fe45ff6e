"""Files of orders, line by line: what a line says, which key it has, how far a file is done."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import cast

import attrs

from trio_pb import canonical

__all__ = [
    "Checkpoint",
    "DonePrefix",
    "LineError",
    "LineReader",
    "OrderLine",
    "PrefixDigest",
    "Progress",
    "idempotency_key",
]

FIELDS = ("customer_id", "order_number", "laptop_type")
DIGITS_MAX = 19  # Of a number: what more says, no order has, and our CBOR could not say it.
LINE_SIZE_MAX = 64 * 1024  # Bytes; an order needs about a hundred.
CHECKPOINT_LINES = 100  # A rerun repeats fewer than this many lines that were done; their keys are known.


class LineError(ValueError):
    """A line is not an order; the message says why."""


@attrs.frozen
class OrderLine:
    """One order of a file."""

    number: int  # Of the line, from 1.
    customer_id: int
    order_number: int
    laptop_type: str


def idempotency_key(order: OrderLine) -> bytes:
    """The 16 bytes that name an order by what its line says, wherever and however often it stands."""
    content = canonical.encode([order.customer_id, order.order_number, order.laptop_type])
    return blake2b(content, digest_size=16, person=b"trio-pb import").digest()


class LineReader:
    """Turns lines of CSV or JSON into orders; whether it is the one or the other, each line shows.

    CSV has three columns, in the order of `FIELDS` unless a first line names them otherwise. A line of
    JSON is an object with these fields. A quoted field must not contain a line end.
    """

    def __init__(self) -> None:
        self._columns: Sequence[int] = (0, 1, 2)
        self._began = False

    def read(self, number: int, data: bytes) -> OrderLine | None:
        """The order in a line; None for a header or an empty line.

        Raises:
            LineError: it is none of these.
        """
        if len(data) > LINE_SIZE_MAX:
            raise LineError(f"longer than {LINE_SIZE_MAX} bytes")
        try:
            text = data.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            raise LineError(f"not UTF-8: {error.reason}") from error
        if not text:
            return None
        first, self._began = not self._began, True
        if text.startswith("{"):
            return self._read_json(number, text)
        return self._read_csv(number, text, first)

    def skip(self, number: int, data: bytes) -> None:
        """Pass over a line that is done; only a first line can matter to those after it."""
        if not self._began:
            with suppress(LineError):
                self.read(number, data)

    def _read_json(self, number: int, text: str) -> OrderLine:
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise LineError(f"not JSON: {error}") from error
        assert isinstance(value, dict)  # It starts with a brace.
        fields = cast(dict[str, object], value)
        for name in fields:
            if name not in FIELDS:
                raise LineError(f"unknown field {name!r}; the fields are {', '.join(FIELDS)}")
        for name in FIELDS:
            if name not in fields:
                raise LineError(f"{name} is missing")
        customer_id, order_number, laptop_type = (fields[name] for name in FIELDS)
        if type(laptop_type) is not str:
            raise LineError(f"laptop_type: {_short(laptop_type)} is not text")
        try:
            laptop_type.encode()
        except UnicodeEncodeError as error:  # JSON can escape half of a character.
            raise LineError(f"laptop_type: {_short(laptop_type)} is not text: {error.reason}") from error
        return OrderLine(
            number, _checked("customer_id", customer_id), _checked("order_number", order_number), laptop_type
        )

    def _read_csv(self, number: int, text: str, first: bool) -> OrderLine | None:
        try:
            (row,) = csv.reader([text], strict=True)
        except (csv.Error, ValueError) as error:
            raise LineError(f"not CSV: {error}") from error
        row = [field.strip() for field in row]
        if first and set(row) == set(FIELDS) and len(row) == len(FIELDS):
            self._columns = [row.index(name) for name in FIELDS]
            return None
        if len(row) != len(FIELDS):
            raise LineError(f"{len(row)} columns; an order has {len(FIELDS)}: {', '.join(FIELDS)}")
        customer_id, order_number, laptop_type = (row[column] for column in self._columns)
        return OrderLine(number, _whole("customer_id", customer_id), _whole("order_number", order_number), laptop_type)


def _whole(name: str, text: str) -> int:
    digits = text.removeprefix("-")
    # int() alone would take underscores, other alphabets' digits, and minutes for a million digits.
    if not digits.isascii() or not digits.isdigit() or len(digits) > DIGITS_MAX:
        raise LineError(f"{name}: {_short(text)} is not a whole number")
    return int(text)


def _checked(name: str, value: object) -> int:
    if type(value) is not int or abs(value) >= 10**DIGITS_MAX:
        raise LineError(f"{name}: {_short(value)} is not a whole number")
    return value


def _short(value: object) -> str:
    """Return a value as a message quotes it."""
    return repr(value[:40] if isinstance(value, str) else value)[:80]


# --- How far a file is done -------------------------------------------------------------------------


@attrs.frozen
class Checkpoint:
    """The first `lines` lines of a file: where they end, and a digest that tells whether they are the same."""

    lines: int
    offset: int
    digest: str  # Hexadecimal.


class PrefixDigest:
    """The digest of all lines so far."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self._lines = 0
        self._offset = 0
        self.at_line_end = True  # The last line was complete.

    def add(self, data: bytes) -> None:
        """Note the next line, its line end included."""
        self._hash.update(data)
        self._lines += 1
        self._offset += len(data)
        self.at_line_end = data.endswith(b"\n")

    def checkpoint(self) -> Checkpoint:
        """What was read so far."""
        return Checkpoint(self._lines, self._offset, self._hash.copy().hexdigest())


class DonePrefix:
    """The longest start of a file all of whose lines are done, though they end in any order."""

    def __init__(self, lines: int = 0) -> None:
        self._lines = lines
        self._done: set[int] = set()  # Above _lines; no more than are under way at once.
        self._ahead: deque[Checkpoint] = deque()

    @property
    def lines(self) -> int:
        """Lines 1..lines are done."""
        return self._lines

    def propose(self, checkpoint: Checkpoint) -> None:
        """A place at which a rerun may begin, once everything before it is done."""
        self._ahead.append(checkpoint)

    def done(self, number: int) -> Checkpoint | None:
        """Note that line `number` is done; the furthest checkpoint that this makes safe, if any."""
        self._done.add(number)
        while self._lines + 1 in self._done:
            self._lines += 1
            self._done.remove(self._lines)
        return self.reached()

    def reached(self) -> Checkpoint | None:
        """The furthest proposed checkpoint within the prefix, once; None if there is no new one."""
        found = None
        while self._ahead and self._ahead[0].lines <= self._lines:
            found = self._ahead.popleft()
        return found


@attrs.frozen
class Progress:
    """The file beside an input, `NAME.progress`: how far it was imported into which cluster."""

    cluster: str
    checkpoint: Checkpoint

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(
            json.dumps({"cluster": self.cluster, **attrs.asdict(self.checkpoint)}) + "\n", encoding="utf-8"
        )
        fresh.replace(path)

    @classmethod
    def load(cls, path: Path) -> Progress | None:
        """Read it; None if it is missing or not what `save` wrote: a rerun then begins at the first line."""
        try:
            fields: object = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        match fields:
            case {"cluster": str(cluster), "lines": int(lines), "offset": int(offset), "digest": str(digest)}:
                return cls(cluster, Checkpoint(lines, offset, digest))
            case _:
                return None
