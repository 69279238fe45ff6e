"""Reads of a client: outside the sessions, without effect, repeated freely until their deadline.

Their numbers only correlate (PROTOCOL 10). Where a read goes depends on its mode; the pages of a scan
go to the replica that gave the cursor, which alone holds the snapshot.
"""

from __future__ import annotations

from collections import OrderedDict

import attrs

from trio_pb.core.client_links import FAR, Link, Links
from trio_pb.core.client_ports import ClientOptions, Failure, OutcomeKind, SubmitRead
from trio_pb.core.messages import Read, ReadMode, Reject, RejectCode

__all__ = ["PendingRead", "Reads"]

FINAL_CODES = frozenset({RejectCode.SNAPSHOT_GONE, RejectCode.BAD_REQUEST, RejectCode.TOO_LARGE, RejectCode.RELEASE})


@attrs.define(eq=False)
class PendingRead:
    """A read without an answer."""

    submit: SubmitRead
    number: int
    mode: ReadMode
    address: str | None  # The replica that holds the cursor's snapshot.
    carrier: str | None = None  # Address of the connection over which an answer may still come.
    sent_ms: int = 0
    resend_ms: int = 0
    attempts: int = 0


class Reads:
    """All reads of one client without an answer, and which replica gave which cursor."""

    def __init__(self, client: bytes, options: ClientOptions, links: Links) -> None:
        self.client = client
        self._options = options
        self._links = links
        self._next_number = 1
        self.by_number: dict[int, PendingRead] = {}
        self.by_token: dict[int, PendingRead] = {}
        self._placed: dict[int, PendingRead] = {}  # Those that may go to another replica than the primary.
        # Cursor -> address that gave it, and when.
        self._cursors: OrderedDict[bytes, tuple[str, int]] = OrderedDict()

    def add(self, submit: SubmitRead, now_ms: int) -> Failure | None:
        """Take a read; a cursor from nowhere fails at once."""
        address = None
        if submit.cursor:
            known = self._cursors.get(submit.cursor)
            if known is None:
                text = "this client did not get that cursor, or too long ago; start the scan again"
                return Failure(OutcomeKind.NOT_SENT, "snapshot_gone", text)
            address, _ = known
        read = PendingRead(submit, self._next_number, submit.mode, address, resend_ms=now_ms)
        self._next_number += 1
        self.by_number[read.number] = read
        self.by_token[submit.token] = read
        if address is not None or submit.mode is ReadMode.LINEARIZABLE_HERE:
            self._placed[read.number] = read
        return None

    def remove(self, read: PendingRead) -> None:
        """Forget a read that has its outcome."""
        del self.by_number[read.number]
        del self.by_token[read.submit.token]
        self._placed.pop(read.number, None)

    def kept_until_ms(self, cursor: bytes) -> int:
        """Until when the replica that gave a cursor keeps the snapshot behind it, at most; FAR for none of ours."""
        known = self._cursors.get(cursor)
        return FAR if known is None else known[1] + self._options.snapshot_ms

    def given_up(self, read: PendingRead, reason: str, now_ms: int) -> Failure:
        """Return the outcome of a read that is waited for no longer."""
        kind = OutcomeKind.NOT_APPLIED if read.attempts else OutcomeKind.NOT_SENT
        text = f"no answer to a read that was sent {read.attempts} times: {self._links.explain()}"
        if reason == "deadline" and now_ms < read.submit.deadline_ms:
            text = f"the replica that holds the state of this scan does not answer; start the scan again ({text})"
            reason = "snapshot_gone"
        return Failure(kind, reason, text)

    def remember_cursor(self, cursor: bytes, address: str, now_ms: int) -> None:
        """Note which replica gave a cursor; the oldest is forgotten when there are too many."""
        self._cursors[cursor] = (address, now_ms)
        self._cursors.move_to_end(cursor)
        if len(self._cursors) > self._options.cursors_max:
            self._cursors.popitem(last=False)

    def message(self, read: PendingRead) -> Read:
        """The read as it goes out."""
        submit = read.submit
        return Read(self.client, read.number, submit.code, submit.body, read.mode, submit.min_op, submit.cursor)

    def wanted(self) -> list[str]:
        """Addresses, besides the lead's, that some read needs a connection to."""
        if not self._placed:
            return []
        wanted: dict[str, None] = {}
        for read in self._placed.values():
            address = self._preferred(read)
            if address is not None:
                wanted[address] = None
            if read.carrier is not None:
                wanted[read.carrier] = None
        return list(wanted)

    def link_for(self, read: PendingRead) -> Link | None:
        """The connection that `read` can go out over now, if there is one."""
        address = self._preferred(read)
        if address is not None:
            link = self._links.by_address[address]
            if link.is_ready:
                return link
            if read.address is not None or link.failures == 0:
                return None  # Only there, or it may come up any moment.
        if read.mode is ReadMode.LINEARIZABLE_HERE and read.address is None:
            return self._links.ready()
        return self._links.lead

    def on_reject(self, read: PendingRead, link: Link, reject: Reject, now_ms: int) -> Failure | None:
        """Take a refusal; return the outcome if it is one, else the read is sent again."""
        if reject.code in FINAL_CODES:
            name = reject.code.name.lower()
            return Failure(OutcomeKind.NOT_APPLIED, name, f"replica {link.replica} refused the read: {name}")
        if read.carrier == link.address:
            read.carrier = None
        if read.address is not None:
            # The snapshot is there whoever leads; asking for the primary would only be refused again.
            read.mode = ReadMode.LINEARIZABLE_HERE
        delay_ms = max(reject.retry_ms, self._options.poll_ms)
        is_elsewhere = reject.code is RejectCode.NOT_PRIMARY and read.mode is ReadMode.LINEARIZABLE
        read.resend_ms = now_ms if is_elsewhere else now_ms + delay_ms
        return None

    def _preferred(self, read: PendingRead) -> str | None:
        if read.address is not None:
            return read.address
        return self._options.read_from if read.mode is ReadMode.LINEARIZABLE_HERE else None
