"""What the replicas and clients of the teaching protocol say, and the seam of its core.

The seam is that of the real core, in small: `step(now_tick, inputs) -> outputs`.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs

__all__ = [
    "Acknowledge",
    "Apply",
    "AskLog",
    "ClientMessage",
    "Entry",
    "Follow",
    "Forward",
    "Heartbeat",
    "Input",
    "LogCopy",
    "Order",
    "Output",
    "PeerMessage",
    "Read",
    "Receive",
    "Redirect",
    "Reply",
    "Save",
    "Saved",
    "Send",
    "ServerMessage",
    "Start",
    "TakeOver",
    "Tick",
    "ToClient",
]


@attrs.frozen
class Order:
    """A client orders a laptop for a customer; `number` is the client's own count, the same in every retry."""

    client: int
    number: int
    customer: int
    laptop: str


Entry = Order  # What stands in the log is the order, with the identity that its client gave it.


# --- Clients and replicas ---------------------------------------------------------------------


@attrs.frozen
class Read:
    """A client asks which laptops a customer ordered."""

    client: int
    number: int
    customer: int


@attrs.frozen
class Reply:
    """The answer to an order or a read: all laptops of the customer, in order, as of `position` in the log."""

    number: int
    position: int
    laptops: tuple[str, ...]


@attrs.frozen
class Redirect:
    """I am not the primary; ask that one."""

    number: int
    primary: int


# --- Replicas ---------------------------------------------------------------------------------


@attrs.frozen
class Forward:
    """Primary to backup: this order stands at `position`; all up to `committed` is committed."""

    view: int
    position: int
    entry: Entry
    committed: int


@attrs.frozen
class Heartbeat:
    """Primary to backup: I am here, my log is so long; answer `beat`."""

    view: int
    position: int
    committed: int
    beat: int


@attrs.frozen
class Acknowledge:
    """Backup to primary: I have all of this view's log up to `position`, and I heard `beat`."""

    view: int
    position: int
    beat: int


@attrs.frozen
class AskLog:
    """Replica to primary: send me the log from index `first` on."""

    view: int
    first: int


@attrs.frozen
class LogCopy:
    """Primary to backup: the log of this view from index `first` on."""

    view: int
    first: int
    entries: tuple[Entry, ...]
    committed: int


@attrs.frozen
class TakeOver:
    """Replica to all: I would be the primary of this view; who follows me?"""

    view: int


@attrs.frozen
class Follow:
    """Replica to the next primary: I follow, and this is my log, from the view `log_view`."""

    view: int
    log_view: int
    log: tuple[Entry, ...]


ClientMessage: TypeAlias = "Order | Read"
ServerMessage: TypeAlias = "Reply | Redirect"
PeerMessage: TypeAlias = "Forward | Heartbeat | Acknowledge | AskLog | LogCopy | TakeOver | Follow"


# --- The seam -----------------------------------------------------------------------------------


@attrs.frozen
class Saved:
    """What a replica has on its disk."""

    view: int = 0
    log_view: int = 0
    log: tuple[Entry, ...] = ()


@attrs.frozen
class Start:
    """Input: the process starts, and finds this on its disk."""

    saved: Saved


@attrs.frozen
class Receive:
    """Input: a message came, from a replica or a client."""

    source: int
    message: PeerMessage | ClientMessage


@attrs.frozen
class Tick:
    """Input: time passed."""


@attrs.frozen
class Send:
    """Output: a message for a replica."""

    destination: int
    message: PeerMessage


@attrs.frozen
class ToClient:
    """Output: an answer."""

    client: int
    message: ServerMessage


@attrs.frozen
class Apply:
    """Output: the state machine executes an order, the one at `position` of the log."""

    position: int
    entry: Entry


@attrs.frozen
class Save:
    """Output: write this to the disk, before any later output is carried out. Disks are perfect here."""

    saved: Saved


Input: TypeAlias = "Start | Receive | Tick"
Output: TypeAlias = "Send | ToClient | Apply | Save"
