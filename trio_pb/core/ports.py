"""The seam: every input that a replica takes and every output that it gives (PROTOCOL 4.1).

`step(now_tick, inputs) -> outputs` is the whole interface. Nothing here acts. An output whose safety
needs something durable first is not given before the completion came in as an input (R-OUT1).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import attrs

from trio_pb.core.durable import Proof, Scan, Superblock
from trio_pb.core.messages import Configuration, Envelope, PeerMessage, Read, Reject, Reply, Request, Status
from trio_pb.core.prepare import Prepare, PrepareId

__all__ = [
    "Answer",
    "Applied",
    "Apply",
    "ApplyItem",
    "Fatal",
    "FromClient",
    "FromPeer",
    "Input",
    "Link",
    "Output",
    "Queried",
    "Query",
    "QueryItem",
    "Report",
    "Requires",
    "Send",
    "Start",
    "SuperblockDone",
    "SuperblockWrite",
    "Tick",
    "ToClient",
    "Trace",
    "Transfer",
    "TransferDone",
    "WalAppend",
    "WalDone",
    "WalRead",
    "WalReadDone",
]


# --- Inputs -----------------------------------------------------------------------------------


@attrs.frozen
class Start:
    """First input of a boot: what opening the storage found."""

    superblock: Superblock
    scan: Scan


@attrs.frozen
class FromPeer:
    """A decoded, digest-checked frame of a peer."""

    envelope: Envelope
    message: PeerMessage


@attrs.frozen
class FromClient:
    """A request or read that came over client connection `connection`.

    Greetings and status requests are answered by the world around the core, from
    `Replica.report()`: they touch nothing.
    """

    connection: int
    message: Request | Read


@attrs.frozen
class Tick:
    """`ticks` of 10 ms passed since the last Tick; last input of its step."""

    ticks: int
    wall_ns: int


@attrs.frozen
class WalDone:
    """Records and proofs of all appends up to `sequence` are durable."""

    sequence: int


@attrs.frozen
class SuperblockDone:
    """Superblock image `sequence` is durable."""

    sequence: int


@attrs.frozen
class WalReadDone:
    """The record asked for, or None when it is missing or damaged."""

    id: PrepareId
    prepare: Prepare | None


@attrs.frozen
class Applied:
    """The state machine executed op `op`; one result per item of its Apply."""

    op: int
    results: tuple[bytes, ...]


class Answer(NamedTuple):
    """Result of one query. `error` names a refusal ('snapshot_gone', 'bad_request'), else empty."""

    token: int
    result: bytes
    cursor: bytes
    error: str


@attrs.frozen
class Queried:
    """Answers to the items of a Query."""

    answers: tuple[Answer, ...]


@attrs.frozen
class Link:
    """A client connection closed, or a peer connection came up or went down."""

    peer: int | None
    connection: int | None
    up: bool


@attrs.frozen
class Transfer:
    """Operator: hand leadership to the fittest other voter (PROTOCOL 11)."""


Input: TypeAlias = (
    Start | FromPeer | FromClient | Tick | WalDone | SuperblockDone | WalReadDone | Applied | Queried | Link | Transfer
)


# --- Outputs ----------------------------------------------------------------------------------


class Requires(NamedTuple):
    """What must already be durable when a Send leaves; a check, never a wait (R-OUT2)."""

    view: int
    log_view: int
    acked: int


@attrs.frozen
class Send:
    """Fire and forget: one frame, encoded once, to each of `replicas`."""

    replicas: tuple[int, ...]
    envelope: Envelope
    message: PeerMessage
    requires: Requires


@attrs.frozen
class ToClient:
    """Fire and forget: one message to a client connection."""

    connection: int
    message: Reply | Reject


@attrs.frozen
class WalAppend:
    """Append durably; completion is WalDone(sequence). Order of work: R-STORE."""

    sequence: int
    prepares: tuple[Prepare, ...]
    proof: Proof | None


@attrs.frozen
class SuperblockWrite:
    """Write this image durably; one in flight at a time."""

    sequence: int
    image: Superblock


@attrs.frozen
class WalRead:
    """Read one record; completion is WalReadDone."""

    id: PrepareId


class ApplyItem(NamedTuple):
    """One request to execute; already known to be the first with its number."""

    position: int  # Within the batch; its timestamp is the op's plus this.
    client: bytes
    code: int
    body: bytes


@attrs.frozen
class Apply:
    """Execute in order; completion is Applied(op). Ops come in order without gaps."""

    op: int
    timestamp: int
    release: int
    items: tuple[ApplyItem, ...]


class QueryItem(NamedTuple):
    """One read to evaluate."""

    token: int
    connection: int
    code: int
    body: bytes
    cursor: bytes


@attrs.frozen
class Query:
    """Evaluate reads on the state after the Applies given before; completion is Queried."""

    op: int  # Highest op of those Applies.
    now_tick: int
    items: tuple[QueryItem, ...]


@attrs.frozen
class TransferDone:
    """The answer to Transfer: we do not lead any more (or never did, or nobody could take over)."""

    handed_over: bool


@attrs.frozen
class Fatal:
    """Stop now. `code` is stable; `text` says what to do."""

    code: str
    text: str


@attrs.frozen
class Trace:
    """Something worth seeing: a protocol event with its numbers."""

    event: str
    fields: tuple[tuple[str, int], ...] = ()


Output: TypeAlias = (
    Send | ToClient | WalAppend | SuperblockWrite | WalRead | Apply | Query | TransferDone | Fatal | Trace
)


@attrs.frozen(kw_only=True)
class Report:
    """Where a replica stands, for status pages, greetings and tests; reading it changes nothing."""

    cluster: bytes
    replica: int
    incarnation: bytes
    boot: int
    status: Status
    is_primary: bool
    primary: int | None  # Who leads `view`, as far as this replica knows.
    view: int
    log_view: int
    head: int
    commit: int
    applied: int
    acked: int
    configuration: Configuration
    peers: tuple[tuple[int, bool, int], ...]  # (replica, alive, applied).
    counters: tuple[tuple[str, int], ...]  # Sorted by name.
    release: int
