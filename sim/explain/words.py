"""Our messages in words: what the sender does and what the receiver learns, and what both are about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, TypeAlias, cast

import attrs

from sim.explain.model import NO_FACTS, Value
from trio_pb.core import messages
from trio_pb.core.messages import CODE_REGISTER, EntryState, Envelope
from trio_pb.core.prepare import Prepare, PrepareId

__all__ = ["AnyMessage", "Phrase", "RequestName", "describe", "in_words", "listed", "ops", "request_names"]

AnyMessage: TypeAlias = "messages.PeerMessage | messages.ClientMessage | messages.ServerMessage"
RequestName: TypeAlias = "Callable[[bytes, int, int], str]"  # (client, session, number) -> "C0's request 5".

NAMED_MAX = 4  # Ops and requests named one by one; more are counted.
FACT_MAX = 120  # Characters of one field in a closer look.


@attrs.frozen
class Phrase:
    """What one says and another hears."""

    kind: str  # Name of the message.
    said: str  # Continues the sender's name; {to} stands for the receivers.
    heard: str  # Continues the receiver's name; {source} stands for the sender.
    about: tuple[str, ...] = ()
    is_idle: bool = False
    asked: str = ""  # The request of a client that it is part of.


def describe(envelope: Envelope | None, message: AnyMessage, name: RequestName) -> tuple[Phrase, Mapping[str, Value]]:
    """Return the words for a message, and its fields."""
    phrase = _PHRASES[type(message)](envelope, message, name)
    return phrase, _facts(envelope, message)


def listed(names: Iterable[str]) -> str:
    """Name several things in a sentence: "R0, R1 and R2"."""
    *most, last = list(names) or ["nobody"]
    return f"{', '.join(most)} and {last}" if most else last


def ops(low: int, high: int) -> str:
    """Name a range of ops."""
    return f"op {low}" if low >= high else f"ops {low} to {high}"


def request_names(prepare: Prepare, name: RequestName) -> tuple[str, ...]:
    """The requests that a prepare orders."""
    return tuple(name(it.client, it.session, it.number) for it in prepare.requests()) if prepare.op else ()


def in_words(names: Sequence[str], many: str, none: str) -> str:
    """Name a few things, or count many."""
    if not names:
        return none
    return listed(names) if len(names) <= NAMED_MAX else f"{len(names)} {many}"


def _facts(envelope: Envelope | None, message: AnyMessage) -> Mapping[str, Value]:
    facts: dict[str, Value] = {} if envelope is None else {"its view": envelope.view, "boot": envelope.boot}
    if envelope is not None and envelope.replica != messages.CLIENT_REPLICA:
        facts |= {"its head": envelope.op, "its commit": envelope.commit}
    # attrs cannot say what the fields of any message are: hence Any below.
    for field in attrs.fields(type(message)):
        value: Any = getattr(message, field.name)
        facts[field.name] = _fact(value)
    return facts or NO_FACTS


def _fact(value: Any) -> Value:  # Whatever a message may hold.
    if isinstance(value, IntEnum):
        return value.name.lower()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, bytes):
        return value.hex()[:16]
    if isinstance(value, Prepare):
        return f"op {value.op} of view {value.view}, {value.checksum.hex()[:8]}, {value.count} requests"
    if isinstance(value, PrepareId):
        return f"op {value.op} ({value.checksum.hex()[:8]})"
    if isinstance(value, messages.CheckpointId):
        return f"op {value.op} ({value.digest.hex()[:8]})"
    if isinstance(value, messages.LogEntry):
        return f"{value.op} {value.state.name.lower()}"
    if attrs.has(cast("type[attrs.AttrsInstance]", type(value))):
        fields = attrs.fields(cast("type[attrs.AttrsInstance]", type(value)))
        return ", ".join(f"{field.name} {_fact(getattr(value, field.name))}" for field in fields)[:FACT_MAX]
    if isinstance(value, tuple):
        return ", ".join(str(_fact(item)) for item in cast("tuple[object, ...]", value))[:FACT_MAX]
    return str(value)[:FACT_MAX]


# --- Replicas ---------------------------------------------------------------------------------------


def _view_of(envelope: Envelope | None) -> int:
    assert envelope is not None, "peers speak in envelopes"
    return envelope.view


def _idle(kind: str, said: str, heard: str) -> Callable[..., Phrase]:
    return lambda *_: Phrase(kind, said, heard, is_idle=True)


def _prepare(_: Envelope | None, message: messages.PrepareMessage, name: RequestName) -> Phrase:
    prepare = message.prepare
    what = f"op {prepare.op} of view {prepare.view}"
    orders = in_words(request_names(prepare, name), "requests", "no request")
    return Phrase(
        "prepare", f"sends {what} ({orders}) to {{to}}", f"gets {what} from {{source}}", (f"op {prepare.op}",)
    )


def _prepare_ok(envelope: Envelope | None, message: messages.PrepareOk, _: RequestName) -> Phrase:
    op, view = message.acked.op, _view_of(envelope)
    return Phrase(
        "prepare_ok",
        f"acknowledges op {op} of view {view} to {{to}}",
        f"hears that {{source}} acknowledges everything up to op {op}",
        (f"op {op}",),
    )


def _commit(envelope: Envelope | None, _message: messages.Commit, _: RequestName) -> Phrase:
    view = _view_of(envelope)
    assert envelope is not None
    return Phrase(
        "commit",
        f"tells {{to}} that it leads view {view} and that everything up to op {envelope.commit} is committed",
        f"hears from {{source}}, primary of view {view}: committed up to op {envelope.commit}",
        is_idle=True,
    )


def _commit_ok(envelope: Envelope | None, message: messages.CommitOk, _: RequestName) -> Phrase:
    acked = "" if message.acked is None else f"; acknowledged: up to op {message.acked.op}"
    return Phrase(
        "commit_ok",
        f"answers the heartbeat of {{to}} in view {_view_of(envelope)}{acked}",
        f"hears that {{source}} follows it{acked}",
        is_idle=True,
    )


def _start_view_change(_: Envelope | None, message: messages.StartViewChange, __: RequestName) -> Phrase:
    reason = message.reason.name.lower().replace("_", " ")
    return Phrase(
        "start_view_change",
        f"tells {{to}} that it wishes for view {message.target} ({reason})",
        f"hears that {{source}} wishes for view {message.target}",
        (f"view {message.target}",),
    )


def _do_view_change(envelope: Envelope | None, message: messages.DoViewChange, _: RequestName) -> Phrase:
    view = _view_of(envelope)
    head = "?" if message.head is None else str(message.head.op)
    denied = [entry.op for entry in message.entries if entry.state is EntryState.NACK]
    faulty = [entry.op for entry in message.entries if entry.state is EntryState.FAULT]
    marks = [f"never acknowledged: {_numbers(denied)}"] * bool(denied) + [f"unreadable: {_numbers(faulty)}"] * bool(
        faulty
    )
    rest = f"; {'; '.join(marks)}" if marks else ""
    log = f"its log of view {message.log_view} up to op {head}, committed op {message.commit.op}{rest}"
    return Phrase(
        "do_view_change",
        f"offers {{to}} for view {view} {log}",
        f"hears of {{source}} for view {view}: {log}",
        (f"view {view}",),
    )


def _numbers(numbers: list[int]) -> str:
    if len(numbers) > NAMED_MAX:
        return f"{len(numbers)} ops, {numbers[0]} to {numbers[-1]}"
    return listed(f"op {number}" for number in numbers)


def _start_view(envelope: Envelope | None, message: messages.StartView, _: RequestName) -> Phrase:
    view, head = _view_of(envelope), message.base.op + len(message.checksums)
    return Phrase(
        "start_view",
        f"tells {{to}} the log of view {view}: up to op {head}",
        f"hears from {{source}} the log of view {view}: up to op {head}",
        (f"view {view}",),
    )


def _get_start_view(envelope: Envelope | None, _message: messages.GetStartView, _: RequestName) -> Phrase:
    view = _view_of(envelope)
    return Phrase(
        "get_start_view",
        f"asks {{to}} for the log of view {view}",
        f"is asked by {{source}} for the log of view {view}",
        (f"view {view}",),
    )


def _get_ids(_: Envelope | None, message: messages.GetIds, __: RequestName) -> Phrase:
    what = ops(message.low, message.high)
    return Phrase(
        "get_ids",
        f"asks {{to}} which prepares are {what}",
        f"is asked by {{source}} which prepares are {what}",
        (f"op {message.low}",),
    )


def _ids(_: Envelope | None, message: messages.Ids, __: RequestName) -> Phrase:
    what = ops(message.low, message.low + len(message.checksums) - 1)
    return Phrase(
        "ids",
        f"tells {{to}} which prepares are {what}",
        f"hears from {{source}} which prepares are {what}",
        (f"op {message.low}",),
    )


def _get_prepares(_: Envelope | None, message: messages.GetPrepares, __: RequestName) -> Phrase:
    numbers = [op for op, _checksum in message.wanted]
    return Phrase(
        "get_prepares",
        f"asks {{to}} for {_numbers(numbers)}",
        f"is asked by {{source}} for {_numbers(numbers)}",
        tuple(f"op {number}" for number in numbers),
    )


def _prepare_copy(_: Envelope | None, message: messages.PrepareCopy, __: RequestName) -> Phrase:
    prepare = message.prepare
    vouched = "" if message.is_current else ", not vouched for"
    return Phrase(
        "prepare_copy",
        f"sends {{to}} a copy of op {prepare.op} of view {prepare.view}{vouched}",
        f"gets a copy of op {prepare.op} of view {prepare.view} from {{source}}{vouched}",
        (f"op {prepare.op}",),
    )


def _chunk(kind: str, said: str, heard: str) -> Callable[..., Phrase]:
    def words(
        _: Envelope | None, message: messages.GetChunk | messages.ChunkPiece | messages.Gone, __: RequestName
    ) -> Phrase:
        chunk = f"chunk {message.digest.hex()[:8]}"
        return Phrase(kind, said.replace("CHUNK", chunk), heard.replace("CHUNK", chunk), (chunk,))

    return words


def _read_index(_: Envelope | None, message: messages.ReadIndex, __: RequestName) -> Phrase:
    return Phrase(
        "read_index",
        "asks {to} from which op on it may answer a read",
        "is asked by {source} from which op on it may answer a read",
        (f"read index {message.boot}.{message.counter}",),
    )


def _read_index_ok(_: Envelope | None, message: messages.ReadIndexOk, __: RequestName) -> Phrase:
    return Phrase(
        "read_index_ok",
        f"tells {{to}} to answer the read from op {message.op} on",
        f"hears from {{source}} to answer the read from op {message.op} on",
        (f"read index {message.boot}.{message.counter}",),
    )


# --- Clients ----------------------------------------------------------------------------------------


def _request(_: Envelope | None, message: messages.Request, name: RequestName) -> Phrase:
    asked = name(message.client, message.session, message.number)
    what = "asks {to} for a session" if message.code == CODE_REGISTER else f"sends {asked} to {{to}}"
    return Phrase("request", what, f"gets {asked}", asked=asked)


def _read(_: Envelope | None, message: messages.Read, name: RequestName) -> Phrase:
    asked = name(message.client, -1, message.number)
    return Phrase("read", f"sends {asked} to {{to}}", f"gets {asked}", asked=asked)


def _reply(_: Envelope | None, message: messages.Reply, name: RequestName) -> Phrase:
    asked = _asked(message, name)
    if message.number and not message.session:
        said, heard = f"answers {asked}, as of op {message.op}", f"the answer to {asked}"
    else:
        again = ", executed before" if message.replayed else ""
        said, heard = f"answers {asked}: op {message.op}{again}", f"that {asked} is op {message.op}{again}"
    return Phrase("reply", said, f"hears from {{source}} {heard}", (asked, f"op {message.op}"), asked=asked)


def _reject(_: Envelope | None, message: messages.Reject, name: RequestName) -> Phrase:
    asked = _asked(message, name)
    reason = message.code.name.lower().replace("_", " ")
    return Phrase(
        "reject", f"refuses {asked}: {reason}", f"hears that {{source}} refuses {asked}: {reason}", asked=asked
    )


def _asked(message: messages.Reply | messages.Reject, name: RequestName) -> str:
    return name(message.client, message.session or (-1 if message.number else 0), message.number)


_PHRASES: dict[type[object], Callable[[Envelope | None, Any, RequestName], Phrase]] = {
    messages.Hello: _idle("hello", "tells {to} who it is", "hears who {source} is"),
    messages.HelloAck: _idle("hello_ack", "has noted who {to} is", "hears that {source} knows it"),
    messages.Ping: _idle("ping", "tells {to} how far it is", "hears how far {source} is"),
    messages.Pong: _idle("pong", "answers {to} how far it is", "hears how far {source} is"),
    messages.PrepareMessage: _prepare,
    messages.PrepareOk: _prepare_ok,
    messages.Commit: _commit,
    messages.CommitOk: _commit_ok,
    messages.StartViewChange: _start_view_change,
    messages.DoViewChange: _do_view_change,
    messages.StartView: _start_view,
    messages.GetStartView: _get_start_view,
    messages.GetIds: _get_ids,
    messages.Ids: _ids,
    messages.GetPrepares: _get_prepares,
    messages.PrepareCopy: _prepare_copy,
    messages.GetChunk: _chunk("get_chunk", "asks {to} for CHUNK of a checkpoint", "is asked by {source} for CHUNK"),
    messages.ChunkPiece: _chunk("chunk", "sends {to} a piece of CHUNK", "gets a piece of CHUNK from {source}"),
    messages.Gone: _chunk("gone", "tells {to} that CHUNK is gone", "hears that {source} does not have CHUNK"),
    messages.ReadIndex: _read_index,
    messages.ReadIndexOk: _read_index_ok,
    messages.Greet: _idle("greet", "asks {to} who it is", "is asked by {source} who it is"),
    messages.Greeted: _idle("greeted", "tells {to} who leads", "hears from {source} who leads"),
    messages.Request: _request,
    messages.Read: _read,
    messages.Reply: _reply,
    messages.Reject: _reject,
    messages.StatusGet: _idle("status_get", "asks {to} for its status", "is asked for its status"),
    messages.StatusReport: _idle("status", "tells {to} its status", "hears the status of {source}"),
}
