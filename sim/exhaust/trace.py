"""A way through a small world, as a file: what happened, move by move, and what was broken at its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import attrs

from sim.exhaust.disk import Kept
from sim.exhaust.moves import Append, Ask, Crash, Deliver, Heartbeat, Image, Move, Wished
from sim.exhaust.world import Size, Step, World
from sim.oracles.facts import Violation
from trio_pb.errors import ConfigError

__all__ = ["SUFFIX", "Trace", "TracedMove", "is_trace", "read_trace"]

FORMAT = "trio-pb small world 1"
SUFFIX = ".world"
SIZE_MAX = 1 << 20  # Of a file: far above any trace's.
NUMBER_END = 1 << 16
_PLAIN: dict[str, type[Append | Image | Heartbeat]] = {"append": Append, "image": Image, "heartbeat": Heartbeat}


@attrs.frozen
class TracedMove:
    """A move of a replica; a message is named by its fingerprint, which is the same in every process."""

    replica: int
    kind: str
    detail: Any = None  # As JSON has it.

    @classmethod
    def of(cls, world: World, replica: int, move: Move) -> TracedMove:
        """Take a move down."""
        kind = type(move).__name__.lower()
        match move:
            case Deliver():
                return cls(replica, kind, world.post.messages[move.message].prints[0].hex())
            case Ask():
                return cls(replica, kind, move.client)
            case Wished():
                return cls(replica, kind, move.view)
            case Crash():
                return cls(replica, kind, [move.kept.appends, list(move.kept.records), move.kept.image])
            case _:
                return cls(replica, kind)

    def move(self, world: World) -> Move | None:
        """The move in a world that has come this far; None if it knows no such message."""
        if self.kind in _PLAIN:
            return _PLAIN[self.kind]()
        match self.kind:
            case "deliver":
                number = world.post.number_of(bytes.fromhex(self.detail))
                return None if number is None else Deliver(number)
            case "ask":
                return Ask(int(self.detail))
            case "wished":
                return Wished(int(self.detail))
            case _:
                appends, records, image = self.detail
                return Crash(Kept(int(appends), tuple(map(bool, records)), bool(image)))


@attrs.frozen(kw_only=True)
class Trace:
    """A shortest way to a broken promise."""

    size: Size
    mutant: str | None = None  # The bug that was planted.
    rule: str
    text: str
    moves: tuple[TracedMove, ...]

    @classmethod
    def of(cls, world: World, steps: Sequence[Step], violation: Violation) -> Trace:
        """Take a way down."""
        text = str(violation).removeprefix(f"{violation.rule}: ")
        moves = tuple([TracedMove.of(world, step.replica, step.move) for step in steps])
        return cls(size=world.size, rule=violation.rule, text=text, moves=moves)

    def write(self, path: Path) -> None:
        """Put the file at `path`, whose folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        head: dict[str, object] = {"format": FORMAT, **attrs.asdict(self.size)}
        head |= {"mutant": self.mutant, "rule": self.rule, "text": self.text}
        lines = [json.dumps(head), *[json.dumps([it.replica, it.kind, it.detail]) for it in self.moves]]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def is_trace(path: Path) -> bool:
    """Whether a file says that it is one."""
    try:
        with path.open("rb") as file:
            return FORMAT.encode() in file.read(64)
    except OSError:
        return False


def read_trace(path: Path) -> Trace:
    """Read a trace.

    Raises:
        ConfigError: it is none; the message names the line.
    """
    lines = path.read_text(encoding="utf-8", errors="replace")[:SIZE_MAX].split("\n")
    values: list[object] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}, line {number}: not JSON: {error}") from error
    try:
        head, *moves = values
        return _trace(cast("dict[str, object]", head), moves)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: no trace of a small world: {error!r}") from error


def _trace(head: dict[str, object], moves: Sequence[object]) -> Trace:
    size = Size(**{field.name: _number(head[field.name]) for field in attrs.fields(Size)})
    mutant = head["mutant"]
    return Trace(
        size=size,
        mutant=None if mutant is None else _text(mutant),
        rule=_text(head["rule"]),
        text=_text(head["text"]),
        moves=tuple([_move(move, size) for move in moves]),
    )


def _move(value: object, size: Size) -> TracedMove:
    """Return a move as it was written, with the detail that its kind has."""
    replica, kind, detail = cast("list[object]", value)
    if not _is_move(kind, detail):
        raise ValueError(f"there is no move {value!r}")
    if _number(replica) >= size.replicas:
        raise ValueError(f"there is no replica {replica!r}")
    return TracedMove(_number(replica), _text(kind), detail)


def _is_move(kind: object, detail: object) -> bool:
    match kind:
        case "deliver":
            return len(bytes.fromhex(_text(detail))) > 0
        case "ask" | "wished":
            return _number(detail) >= 0
        case "crash":
            appends, records, image = cast("list[object]", detail)
            kept = [image, *cast("list[object]", records)]
            return _number(appends) >= 0 and all(type(it) is bool for it in kept)
        case _:
            return kind in _PLAIN and detail is None


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < NUMBER_END:
        raise ValueError(f"{value!r} is no number of anything in a small world")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError(f"{value!r} is no text")
    value.encode()  # JSON can escape half of a character, which nobody can print.
    return value
