"""What happens to messages between two ports: narrow links with short queues, clogs, and resets.

A run that has none of these has no `Links`: its network takes the short way. A *narrow* link lets so many
bytes pass in a second; what waits for it has a bounded queue, and more is dropped, as a sender does whose
queue for a peer is full. A *clogged* link lets nothing arrive until it is free again, and then everything at
once. A *reset* loses whatever is on its way, the last frame of it in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from sim.scheduler import Scheduler
from trio_pb.core.messages import ChunkPiece, PrepareCopy, PrepareMessage

if TYPE_CHECKING:
    from sim.network import Payload

__all__ = ["CLOG_QUEUE", "Link", "Links", "size_of"]

Link: TypeAlias = "tuple[int, int]"

CLOG_QUEUE = 50  # Messages that wait on a clogged link; later ones find the queue of their sender full.
FRAME_SIZE = 250  # Bytes of an ordinary frame, envelope included; what a run without bytes counts with.
BULK = (PrepareCopy, ChunkPiece)  # These have a connection of their own (R-CHAN).


def size_of(message: object) -> int:
    """About how many bytes a message takes."""
    if isinstance(message, PrepareMessage | PrepareCopy):
        return FRAME_SIZE + len(message.prepare.payload)
    body: bytes = getattr(message, "data", b"") or getattr(message, "body", b"") or getattr(message, "result", b"")
    return FRAME_SIZE + len(body)


class Links:
    """The state of every link that is more than a delay."""

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        bytes_per_second: int,
        queue_bytes: int,
        deliver: Callable[[int, int, Payload], None],
        lost: Callable[[Payload], None],
    ) -> None:
        """`deliver(source, destination, payload)` takes what arrives, `lost(payload)` what a reset took."""
        self.clogged: set[Link] = set()
        self.counts = {"overflowed": 0, "clogged": 0, "reset": 0}
        self._scheduler = scheduler
        self._bytes_per_second = bytes_per_second  # 0: links are as wide as needed.
        self._queue_us = queue_bytes * 1_000_000 // bytes_per_second if bytes_per_second else 0
        self._deliver = deliver
        self._lost = lost
        self._free_at: dict[tuple[Link, bool], int] = {}  # When the last byte given to a link will have left.
        self._held: dict[Link, list[Payload]] = {}  # What waits behind a clog, in order of arrival.
        self._resets: dict[Link, int] = {}

    def waits(self, link: Link, message: object, *, may_drop: bool) -> int | None:
        """Microseconds until a message has left its sender; None when there is no room in the queue.

        A stream does not drop (`may_drop` false): its sender is held up.
        """
        if not self._bytes_per_second:
            return 0
        now = self._scheduler.now
        lane = (link, isinstance(message, BULK))
        begins = max(self._free_at.get(lane, 0), now)
        if may_drop and begins - now > self._queue_us:
            self.counts["overflowed"] += 1
            return None
        ends = begins + size_of(message) * 1_000_000 // self._bytes_per_second
        self._free_at[lane] = ends
        return ends - now

    def start(self, time: int, link: Link, payload: Payload) -> None:
        """Let `payload` arrive at `time`, unless something happens to it on the way."""
        self._scheduler.at(time, self._arrive, self._resets.get(link, 0), link, payload)

    def clog(self, links: Iterable[Link]) -> set[Link]:
        """Let nothing arrive; return the links that were free before."""
        made = set(links) - self.clogged
        self.clogged |= made
        return made

    def free(self, links: Iterable[Link]) -> None:
        """Let everything that waits arrive at once, and go on."""
        for link in sorted(links):
            self.clogged.discard(link)
            for payload in self._held.pop(link, ()):
                self._deliver(*link, payload)

    def reset(self, one: int, other: int) -> None:
        """Lose what is on its way between two nodes, and what waits there."""
        for link in ((one, other), (other, one)):
            self._resets[link] = self._resets.get(link, 0) + 1
            self._lose(self._held.pop(link, []))

    def heal(self) -> None:
        """No clog and no narrow link any more."""
        self._bytes_per_second = 0
        self.free(set(self.clogged))

    def _arrive(self, resets: int, link: Link, payload: Payload) -> None:
        if resets != self._resets.get(link, 0):
            self._lose([payload])
        elif link not in self.clogged:
            self._deliver(*link, payload)
        else:
            held = self._held.setdefault(link, [])
            if len(held) >= CLOG_QUEUE:
                self.counts["overflowed"] += 1
                return
            self.counts["clogged"] += 1
            held.append(payload)

    def _lose(self, payloads: list[Payload]) -> None:
        for payload in payloads:
            self.counts["reset"] += 1
            self._lost(payload)
