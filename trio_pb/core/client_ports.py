"""The seam of the client: every input that `ClusterClient` takes and every output that it gives.

`step(now_ms, inputs) -> outputs` is the whole interface. Times are whole milliseconds on a clock of the
caller that never runs back. The world around the machine keeps at most one connection per address:

* `Connect(address)` is answered by one `Connected`, or by `Disconnected` when it failed.
* A connection that ends by itself is told once, with `Disconnected`.
* After `Disconnect(address)` nothing more of that connection is given in, not even `Disconnected`.
* A connection delivers each frame at most once and in order, as TCP does (PROTOCOL 5.4).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import attrs

from trio_pb.core.messages import ClientMessage, Envelope, ReadMode, Reply, ServerMessage
from trio_pb.errors import ConfigError

__all__ = [
    "Cancel",
    "ClientInput",
    "ClientOptions",
    "ClientOutput",
    "Completed",
    "Connect",
    "Connected",
    "Disconnect",
    "Disconnected",
    "Failure",
    "OutcomeKind",
    "Received",
    "Submit",
    "SubmitRead",
    "Success",
    "Transmit",
]


@attrs.frozen(kw_only=True)
class ClientOptions:
    """Bounds and timers of one client; times in milliseconds."""

    cluster: bytes | None = None  # 16 bytes; None: that of the first replica which answers.
    wire_versions: tuple[int, ...] = (1,)
    window_max: int = 8  # Numbers in flight per session; the cluster may allow fewer.
    sessions_max: int = 64
    queue_max: int = 16384  # Requests and reads accepted and not completed.
    read_from: str | None = None  # Address preferred for reads in mode LINEARIZABLE_HERE.
    retransmit_ms: int = 500  # First retransmission; doubled up to retransmit_ms_max.
    retransmit_ms_max: int = 4000
    connect_timeout_ms: int = 1000  # From Connect to Greeted.
    reconnect_ms: int = 20  # After a failed or lost connection; doubled up to reconnect_ms_max.
    reconnect_ms_max: int = 500
    stagger_ms: int = 30  # Between connection attempts to different addresses when looking for the primary.
    poll_ms: int = 25  # Between questions to one replica who leads; doubled up to poll_ms_max.
    poll_ms_max: int = 100
    silence_ms: int = 300  # A primary that answers nothing this long is doubted: others are asked.
    drop_ms: int = 2000  # A primary that answers nothing this long loses its connection.
    snapshot_ms: int = 30_000  # After so long without a page the replica of a scan has dropped its snapshot.
    cursors_max: int = 256  # Cursors whose replica is remembered.
    addresses_max: int = 64
    seed: int = 0  # Of jitter.

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(ClientOptions):
            value = getattr(self, field.name)
            if type(value) is int and value < (0 if field.name == "seed" else 1):
                raise ConfigError(f"client option {field.name}: {value!r} is not a positive whole number")
        for least, most in (
            ("retransmit_ms", "retransmit_ms_max"),
            ("reconnect_ms", "reconnect_ms_max"),
            ("poll_ms", "poll_ms_max"),
            ("silence_ms", "drop_ms"),
        ):
            if getattr(self, least) > getattr(self, most):
                raise ConfigError(f"client option {least}: must not exceed {most}")


# --- Inputs -----------------------------------------------------------------------------------


@attrs.frozen
class Connected:
    """The connection asked for is up; nothing was sent over it yet."""

    address: str


@attrs.frozen
class Disconnected:
    """The connection ended or could not be made."""

    address: str
    reason: str = ""


@attrs.frozen
class Received:
    """A decoded, digest-checked frame of a replica."""

    address: str
    envelope: Envelope
    message: ServerMessage


@attrs.frozen
class Submit:
    """Have a command ordered; answered by one Completed, at `deadline_ms` at the latest."""

    token: int  # Chosen by the caller; never used twice.
    code: int  # From 2 on.
    body: bytes
    deadline_ms: int
    lane: int | None = None  # Requests of one lane (>= 0) are executed in the order submitted.


@attrs.frozen
class SubmitRead:
    """Have a query answered; answered by one Completed, at `deadline_ms` at the latest."""

    token: int  # From the same numbers as those of Submit.
    code: int
    body: bytes
    deadline_ms: int
    mode: ReadMode = ReadMode.LINEARIZABLE
    min_op: int = 0
    cursor: bytes = b""  # Where an earlier page left off; goes to the replica that gave it.


@attrs.frozen
class Cancel:
    """Nobody waits for `token` any more: complete it now with what is known. Late ones are ignored."""

    token: int


ClientInput: TypeAlias = Connected | Disconnected | Received | Submit | SubmitRead | Cancel


# --- Outputs ----------------------------------------------------------------------------------


@attrs.frozen
class Connect:
    """Open a connection to `address`."""

    address: str


@attrs.frozen
class Disconnect:
    """Close the connection to `address`, or give up opening it."""

    address: str


@attrs.frozen
class Transmit:
    """Send over the connection to `address`; fire and forget."""

    address: str
    message: ClientMessage


class OutcomeKind(IntEnum):
    """What is certain about a request that got no answer."""

    NOT_SENT = 0  # It never left: no effect.
    NOT_APPLIED = 1  # Every transmission was refused, or it was a read: no effect.
    UNKNOWN = 2  # It may or may not have been executed.


@attrs.frozen
class Success:
    """The cluster answered."""

    reply: Reply
    replica: int  # Who answered,
    connection: int  # and its tag of our connection.


@attrs.frozen
class Failure:
    """No answer, or a refusal.

    `reason` is a stable name: that of a reject code in lower case (`busy`, `bad_request`, `too_large`,
    `no_session`, `not_primary`, `snapshot_gone`, ...), or `deadline`, `cancelled`, `queue_full`,
    `session_lost`, `wrong_cluster`.
    """

    kind: OutcomeKind
    reason: str
    text: str
    retry_ms: int = 0  # The cluster's advice when `reason` is busy.


@attrs.frozen
class Completed:
    """The one and only outcome of `token`."""

    token: int
    outcome: Success | Failure


ClientOutput: TypeAlias = Connect | Disconnect | Transmit | Completed
