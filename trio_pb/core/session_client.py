"""One session of a client: its numbers, its window, and what is certain about each number.

A session executes its numbers 1, 2, 3, ... at most once each and in order (PROTOCOL 5.4). It knows
nothing of connections but the address that a transmission went to.
"""

from __future__ import annotations

from hashlib import blake2b

import attrs

from trio_pb.core.messages import CODE_EMPTY, CODE_REGISTER, Request

__all__ = ["Pending", "Session", "client_id"]


def client_id(identity: bytes, index: int) -> bytes:
    """Return the client id of session `index` (16 bytes); `identity` is random per client process."""
    return blake2b(identity + index.to_bytes(8, "big"), digest_size=16).digest()


@attrs.define(eq=False)
class Pending:
    """One number without an answer.

    While `certain`, all transmissions but the one under way (`carrier`) were refused by the replica they
    went to, so they had no effect. A transmission whose connection ended, or that was repeated
    while no answer had come, ends certainty for good: the first answer can no longer be told from the
    second.
    """

    session: Session
    number: int
    code: int
    body: bytes
    token: int | None = None  # None: nobody waits; the number only has to be used up.
    deadline_ms: int = 0
    certain: bool = True
    carrier: str | None = None  # Address of the connection over which an answer may still come.
    sent_ms: int = 0
    resend_ms: int = 0  # Not sent again before.
    attempts: int = 0
    refusal: str = ""  # Why it was last refused.

    @property
    def has_no_effect(self) -> bool:
        """Whether every transmission is known to have had no effect."""
        return self.certain and self.carrier is None

    def message(self) -> Request:
        """The request as it goes out."""
        return Request(self.session.client, self.session.number, self.number, self.code, self.body)

    def on_sent(self, address: str, now_ms: int, resend_ms: int) -> None:
        """Note a transmission."""
        if self.carrier is not None:
            self.certain = False
        self.carrier = address
        self.sent_ms = now_ms
        self.resend_ms = resend_ms
        self.attempts += 1

    def on_refused(self, address: str, refusal: str) -> None:
        """Note that the replica at `address` says: that transmission had no effect."""
        if self.carrier == address:
            self.carrier = None
        self.refusal = refusal

    def on_lost(self, address: str) -> None:
        """Note that no answer will come from `address` any more."""
        if self.carrier == address:
            self.carrier = None
            self.certain = False

    def become_empty(self) -> None:
        """Go on with an empty request under the same number, so that the next number is not blocked.

        An earlier transmission may still be executed instead: whoever waited was told so already.
        """
        self.token = None
        self.code = CODE_EMPTY
        self.body = b""


@attrs.define(eq=False)
class Session:
    """Numbers in flight under one client id. Registering is number 0 of session 0."""

    client: bytes
    number: int = 0  # Given by the cluster; 0 while registering.
    next_number: int = 1
    pending: dict[int, Pending] = attrs.Factory(dict[int, Pending])  # By number, ascending.
    is_lost: bool = False  # Evicted: nothing is sent any more; what is under way may still be answered.

    def __attrs_post_init__(self) -> None:
        self.pending[0] = Pending(self, 0, CODE_REGISTER, b"")

    @property
    def is_open(self) -> bool:
        """Whether numbers can be used."""
        return self.number != 0 and not self.is_lost

    @property
    def lowest(self) -> Pending | None:
        """The lowest number without an answer: the only one that cannot wait for another."""
        return next(iter(self.pending.values()), None)

    def has_room(self, window: int) -> bool:
        """Whether the next number k may be sent: every number <= k - `window` is answered."""
        if not self.is_open:
            return False
        for lowest in self.pending:
            return self.next_number - lowest < window
        return True

    def assign(self, token: int, code: int, body: bytes, deadline_ms: int) -> Pending:
        """Give the next number to a request."""
        pending = Pending(self, self.next_number, code, body, token, deadline_ms)
        self.pending[self.next_number] = pending
        self.next_number += 1
        return pending

    def on_registered(self, number: int) -> None:
        """The cluster gave this session its number."""
        assert not self.is_open, "registered twice"
        del self.pending[0]
        self.number = number
