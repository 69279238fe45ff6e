"""Files of orders: what a line says, which key it has, how far a file is done."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pb.cli.line_source import LineSource
from trio_pb.cli.order_lines import (
    LINE_SIZE_MAX,
    Checkpoint,
    DonePrefix,
    LineError,
    LineReader,
    OrderLine,
    PrefixDigest,
    Progress,
    idempotency_key,
)
from trio_pb.errors import ConfigError


def read_all(*lines: bytes) -> list[OrderLine | None]:
    """Read lines from 1 on."""
    reader = LineReader()
    return [reader.read(number, line) for number, line in enumerate(lines, 1)]


def test_csv_and_json_say_the_same() -> None:
    """The two formats are two spellings of one order."""
    assert read_all(b"7,3,xps\n") == [OrderLine(1, 7, 3, "xps")]
    assert read_all(b'{"laptop_type":"xps","customer_id":7,"order_number":3}\n') == [OrderLine(1, 7, 3, "xps")]


def test_a_first_line_may_name_the_columns() -> None:
    """A header gives the order of columns; it is no order itself."""
    lines = read_all(b"\xef\xbb\xbflaptop_type, order_number ,customer_id\r\n", b'"a, b",3,7\r\n', b"\n")
    assert lines == [None, OrderLine(2, 7, 3, "a, b"), None]


def test_a_rerun_that_skips_the_first_line_still_knows_the_columns() -> None:
    """Skipping a header is reading it."""
    reader = LineReader()
    reader.skip(1, b"laptop_type,order_number,customer_id\n")
    reader.skip(2, b"xps,1,7\n")
    assert reader.read(3, b"xps,2,7\n") == OrderLine(3, 7, 2, "xps")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"1,2", "2 columns"),
        (b"1,2,x,y", "4 columns"),
        (b"one,2,x", "customer_id"),
        (b"1,2.5,x", "order_number"),
        (b"1," + b"9" * 50 + b",x", "order_number"),
        ("1,\u0663,x".encode(), "order_number"),
        (b'1,2,"x', "not CSV"),
        (b"1,2,\xff", "not UTF-8"),
        (b"{", "not JSON"),
        (b'{"customer_id":' + b"[" * 50_000, "not JSON"),
        (b'{"customer_id":1,"order_number":2}', "laptop_type is missing"),
        (b'{"customer_id":1,"order_number":2,"laptop_type":"x","colour":"red"}', "colour"),
        (b'{"customer_id":true,"order_number":2,"laptop_type":"x"}', "customer_id"),
        (b'{"customer_id":1,"order_number":2.0,"laptop_type":"x"}', "order_number"),
        (b'{"customer_id":1,"order_number":2,"laptop_type":3}', "laptop_type"),
        (b'{"customer_id":1,"order_number":2,"laptop_type":"\\ud800"}', "laptop_type: '.ud800' is not text"),
        (b'{"customer_id":1,"order_number":1' + b"0" * 19 + b',"laptop_type":"x"}', "order_number"),
    ],
)
def test_a_bad_line_is_named(line: bytes, told: str) -> None:
    """What is no order is refused, with the field at fault where there is one."""
    with pytest.raises(LineError, match=told):
        LineReader().read(2, line)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_order_or_a_line_error(line: bytes) -> None:
    """Reading is total."""
    with suppress(LineError):
        LineReader().read(1, line)


def test_a_key_is_made_of_what_the_line_says() -> None:
    """Neither the format nor the place in the file matters, every field does."""
    key = idempotency_key(OrderLine(1, 7, 3, "xps"))
    assert len(key) == 16
    assert key == idempotency_key(OrderLine(99, 7, 3, "xps"))
    others = [
        OrderLine(1, 8, 3, "xps"),
        OrderLine(1, 7, 4, "xps"),
        OrderLine(1, 7, 3, "xpt"),
        OrderLine(1, 73, 0, "xps"),
    ]
    assert len({key, *map(idempotency_key, others)}) == 5


@given(st.permutations(range(1, 13)))
def test_a_checkpoint_is_safe_only_when_all_before_it_is_done(order: list[int]) -> None:
    """Lines end in any order; a rerun never begins behind one that did not."""
    prefix = DonePrefix()
    for lines in (4, 8, 12):
        prefix.propose(Checkpoint(lines, 10 * lines, ""))
    done: set[int] = set()
    reached: list[int] = []
    for number in order:
        done.add(number)
        checkpoint = prefix.done(number)
        if checkpoint is not None:
            reached.append(checkpoint.lines)
            assert done >= set(range(1, checkpoint.lines + 1))
    assert reached[-1] == 12
    assert reached == sorted(set(reached))


def test_progress_survives_its_file(tmp_path: Path) -> None:
    """What was saved is loaded; what is damaged or missing counts as no progress."""
    path = tmp_path / "orders.csv.progress"
    assert Progress.load(path) is None
    digest = PrefixDigest()
    digest.add(b"1,2,x\n")
    progress = Progress("c0ffee", digest.checkpoint())
    progress.save(path)
    assert Progress.load(path) == progress
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    assert Progress.load(path) is None
    path.write_text("[" * 50_000, encoding="utf-8")
    assert Progress.load(path) is None


@pytest.mark.parametrize("end", [b"", b"\n"])
async def test_lines_come_whole(tmp_path: Path, end: bytes) -> None:
    """Lines across chunks, an unfinished last line, and all of it again after a rewind."""
    lines = [b"%d," % number * (number % 700) + b"\n" for number in range(1500)]
    lines[-1] = lines[-1].rstrip(b"\n") + end
    path = tmp_path / "orders.csv"
    path.write_bytes(b"".join(lines))
    with LineSource(path) as source:
        assert await source.count() == 1500
        for _ in range(2):
            found: list[bytes] = []
            while line := await source.next_line():
                found.append(line)
            assert found == lines
            await source.rewind()


async def test_an_endless_line_is_refused(tmp_path: Path) -> None:
    """Something that is no text file does not fill the memory."""
    path = tmp_path / "orders.csv"
    path.write_bytes(b"1,2,x\n" + b"\0" * (4 * LINE_SIZE_MAX))
    with LineSource(path) as source:
        assert await source.next_line() == b"1,2,x\n"
        with pytest.raises(ConfigError, match="line 2"):
            await source.next_line()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The user learns which file it was."""
    with pytest.raises(ConfigError, match="nothing-here"):
        LineSource(tmp_path / "nothing-here")
