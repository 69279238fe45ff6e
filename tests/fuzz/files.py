"""What people and other programs write: configuration, recordings, histories, small worlds, files of orders."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import TypeVar

import attrs

from sim import recording
from sim.choices import Choices
from sim.exhaust.trace import Trace, TracedMove, read_trace
from sim.exhaust.world import Size
from sim.linearizability.history import HistoryError, read_history, write_history
from sim.linearizability.models import MODELS
from tests.fuzz.harness import Harness
from tests.fuzz.sequence import rearrange
from trio_pb.app.orders import PlaceOrder, encode_place
from trio_pb.cli.config_file import read_config
from trio_pb.cli.order_lines import LINE_SIZE_MAX, LineError, LineReader, Progress, idempotency_key
from trio_pb.driver.addresses import parse_address
from trio_pb.errors import ConfigError

__all__ = ["HARNESSES"]

T = TypeVar("T")
ROOT = Path(__file__).parent.parent.parent


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="trio-pb-fuzz-")


def as_file(data: bytes) -> Path:
    """The one file of this process, with `data` in it: these readers take paths."""
    path = Path(_folder().name, "input")
    path.write_bytes(data)
    return path


def taken(read: Callable[[Path], T], path: Path) -> T | None:
    """What `read` makes of the file; None when it refused, in words that can be printed and say where to look."""
    try:
        return read(path)
    except (ConfigError, HistoryError) as error:
        said = str(error)
    said.encode()
    assert str(path) in said, f"an error that names no file: {said}"
    return None


# --- Configuration --------------------------------------------------------------------------------


def check_config(data: bytes) -> None:
    """Whatever a file says, the error names the file; what was taken are addresses and replica numbers."""
    path = as_file(data)
    config = taken(read_config, path)
    if config is None:
        return
    addresses = [config.listen, config.advertise, *(config.peers or {}).values()]
    for address in addresses:
        if address is not None:
            host, port = parse_address(address)
            assert 0 <= port <= 65535
            assert not any(letter.isspace() for letter in host)
    for replica in config.peers or {}:
        assert 0 <= replica <= 1023
    assert config.checkpoint_interval is None or type(config.checkpoint_interval) is int


def config_seeds() -> Iterator[bytes]:
    """With all keys, and with few."""
    yield (
        b'listen = "0.0.0.0:7400"\nadvertise = "[::1]:7400"\ncheckpoint-interval = 1024\n\n'
        b'[peers]\n0 = "db0.example:7400"\n1 = "db1.example:7400"\n'
    )
    yield b'peers = {0 = ":7400", 1023 = "h:65535"}\n'
    yield b"checkpoint-interval = 0x400 # hex\n"


# --- Recordings -----------------------------------------------------------------------------------


def check_choices(data: bytes) -> None:
    """A recording that was read is written as text that reads the same, and can be made choices of a run."""
    if b"experiment: machine" in data or b"experiment:machine" in data:
        return  # Names a module to import: whoever replays it trusts it like a program.
    path = as_file(data)
    found = taken(recording.read, path)
    if found is None:
        return
    text = found.text()
    assert recording.parse(text, "") == found
    assert recording.parse(text, "").text() == text
    text.encode()
    Choices(found.seed, found.choices)


def choice_seeds() -> Iterator[bytes]:
    """Recordings of planted bugs, a clean one, and one with words that must be quoted."""
    folder = ROOT / "tests/sim/regressions/planted"
    yield from sorted((path.read_bytes() for path in folder.glob("*.choices")), key=len)[:4]
    head = (
        b"trio-pb choices 1\nversion: 0.1.0\nexperiment: swarm all\nseed: -4711\ntrace: 5d1fa90c after 2149 events\n\n"
    )
    yield head
    yield head + b'crash, 0 = 1\n"two words ", "\\u00e9\\"", -7 = -3\n'
    yield head.replace(b"swarm all", b"naive one-behind in noise")


# --- Histories ------------------------------------------------------------------------------------


def check_history(data: bytes) -> None:
    """The first byte chooses the machine. What was read is written as lines that read the same."""
    if not data:
        return
    names = sorted(MODELS)
    model = MODELS[names[data[0] % len(names)]]()
    path = as_file(data[1:])
    calls = taken(lambda it: read_history(it, model), path)
    if calls is None:
        return
    for call in calls:
        model.describe(call.input, call.output)
        hash(call)
    write_history(path, calls)
    again = read_history(path, model)
    assert str(again) == str(calls), "not what was written"  # As text: not-a-number equals nothing.


def history_seeds() -> Iterator[bytes]:
    """Calls of each machine."""
    inputs: dict[str, list[object]] = {
        "counter": [["add", "c", 2], ["read", "c"]],
        "orders": [["place", 7, 1, "x1", False, None], ["read", 7], ["scan", 0]],
        "queue": [["enqueue", "q", 1], ["dequeue", "q"]],
        "register": [["write", "r", 1], ["read", "r"]],
    }
    for number, name in enumerate(sorted(MODELS)):
        lines = [
            json.dumps({"process": "client 1", "begin": at, "end": None, "input": asked}) + "\n"
            for at, asked in enumerate(inputs[name])
        ]
        yield bytes([number]) + "".join(lines).encode()
    yield b"\1" + (
        b'{"process": "a", "begin": 1, "end": 2, "input": ["read", 7], "output": [1, 1, "x"], "hint": 3}\n'
        b'{"process": "a", "begin": 3, "end": 9, "input": ["scan", 0], "output": [[[7, 1, 1, "x"]], null]}\n'
    )


# --- Small worlds ---------------------------------------------------------------------------------


def check_world(data: bytes) -> None:
    """A trace that was read is written as lines that read the same."""
    path = as_file(data)
    found = taken(read_trace, path)
    if found is None:
        return
    found.write(path)
    again = read_trace(path)
    assert str(again) == str(found)  # As text: not-a-number equals nothing.


def world_seeds() -> Iterator[bytes]:
    """A trace with every kind of move."""
    moves = [("append", None), ("deliver", "00ff" * 8), ("ask", 1), ("wished", 2), ("crash", [1, [True, False], True])]
    trace = Trace(
        size=Size(),
        mutant=None,
        rule="INV-1",
        text="two logs",
        moves=tuple(TracedMove(at % 3, kind, detail) for at, (kind, detail) in enumerate(moves)),
    )
    path = as_file(b"")
    for mutant in (None, "small-view-change-quorum"):
        attrs.evolve(trace, mutant=mutant).write(path)
        yield path.read_bytes()


# --- Files of orders ------------------------------------------------------------------------------


def check_order_lines(data: bytes) -> None:
    """Each line is an order, which can be sent and named, or refused in words; so is a file of progress."""
    reader = LineReader()
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        assert len(line) <= LINE_SIZE_MAX
        try:
            order = reader.read(number, line)
        except LineError as error:
            str(error).encode()  # It is printed.
            continue
        if order is not None:
            assert len(idempotency_key(order)) == 16
            encode_place(PlaceOrder(order.customer_id, order.order_number, order.laptop_type))
    path = as_file(data)
    progress = Progress.load(path)
    if progress is not None:
        progress.save(path)
        assert Progress.load(path) == progress


def order_line_seeds() -> Iterator[bytes]:
    """CSV with and without header, JSON, and how far an import got."""
    yield b'1,2,x1\n7,3,"a, b"\n'
    yield b"\xef\xbb\xbflaptop_type, order_number ,customer_id\r\nx1,2,7\r\n"
    yield b'{"customer_id": 7, "order_number": 3, "laptop_type": "x\\u00e9"}\n\n1,1,x\n'
    yield b'{"cluster": "6f1c", "lines": 100, "offset": 1234, "digest": "00ff"}\n'


def change_line(data: bytes, random: Random) -> bytes:
    """Drop, double, move or join lines, or put another number or word in the place of one."""
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    at = random.randrange(len(lines))
    match random.randrange(5):
        case 0 | 1 | 2:
            rearrange(lines, random)
        case 3:
            lines[at] = lines[at].rstrip(b"\n")
        case _:
            line = lines[at]
            cut = sorted(random.randrange(len(line) + 1) for _ in range(2))
            lines[at] = line[: cut[0]] + random.choice(_WORDS) + line[cut[1] :]
    return b"".join(lines)


_WORDS = (
    *(b"0", b"-1", b"1e999", b"NaN", b"9" * 20, b"9" * 4400, b"null", b"true", b'"\\ud800"', b"[" * 1200, b"{}", b"[]"),
    *(b'"', b"\\", b"\r", b"\0", b" ", b"\xff", b"\xc3\xa9", b"=", b",", b":", b"."),
)


HARNESSES = (
    Harness(
        name="config",
        about="the file trio-pb.toml",
        check=check_config,
        seeds=config_seeds,
        mutate=change_line,
        size_max=8192,
    ),
    Harness(
        name="choices",
        about="recordings of simulated runs",
        check=check_choices,
        seeds=choice_seeds,
        mutate=change_line,
        size_max=8192,
    ),
    Harness(
        name="history",
        about="histories to be checked",
        check=check_history,
        seeds=history_seeds,
        mutate=change_line,
        size_max=8192,
    ),
    Harness(
        name="world",
        about="traces of small worlds",
        check=check_world,
        seeds=world_seeds,
        mutate=change_line,
        size_max=8192,
    ),
    Harness(
        name="order-lines",
        about="files of orders, and how far one was imported",
        check=check_order_lines,
        seeds=order_line_seeds,
        mutate=change_line,
        size_max=8192,
    ),
)
