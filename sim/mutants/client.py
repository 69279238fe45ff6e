"""Planted bugs: the client (PROTOCOL 5.4)."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from sim.mutants.mutant import Patch, mutant
from trio_pb.core.client_links import FAR, Link, Links
from trio_pb.core.client_ports import Failure, Submit
from trio_pb.core.client_reads import Reads
from trio_pb.core.cluster_client import ClusterClient
from trio_pb.core.messages import Reply
from trio_pb.core.session_client import Pending
from trio_pb.core.session_pool import SessionPool


def _pool_of(client: ClusterClient) -> SessionPool:
    pool: SessionPool = vars(client)["_pool"]
    return pool


@mutant(
    breaks="5.4: a retry is the same number (T-25)",
    source="FoundationDB layers: commit_unknown_result, tried again as a new transaction",
    expects=(
        "INV-18",
        "INV-22",
        "INV-33",
    ),
)
def retry_as_a_new_request(patch: Patch) -> None:
    """A request without an answer is sent again under a new number."""
    send: Callable[[ClusterClient, Pending, Link], None] = vars(ClusterClient)["_send"]

    def wrong(self: ClusterClient, pending: Pending, link: Link) -> None:
        session = pending.session
        if pending.attempts and pending.number and pending.token is not None and session.has_room(8):
            old = session.pending[pending.number] = Pending(session, pending.number, pending.code, pending.body)
            old.attempts, old.resend_ms = 1, FAR
            again = session.assign(pending.token, pending.code, pending.body, pending.deadline_ms)
            again.certain = False
            _pool_of(self).numbered[pending.token] = again
            send(self, again, link)
        else:
            send(self, pending, link)

    patch.set(ClusterClient, "_send", wrong)


@mutant(
    breaks="5.4: a deadline is indeterminate (T-25)",
    source="Jepsen: clients that take a time-out for a failure",
    expects=("INV-22",),
)
def timeout_means_failure(patch: Patch) -> None:
    """A request whose deadline passes is reported as one that had no effect."""
    patch.set(Pending, "has_no_effect", property(_certainly))


def _certainly(_self: Pending) -> bool:
    return True


@mutant(
    breaks="5.4: a lost connection ends certainty (T-25)",
    source="JDBC drivers that report a broken connection as a rollback",
    expects=("INV-22",),
)
def lost_connection_means_failure(patch: Patch) -> None:
    """A connection that ends counts as a refusal of what was sent over it."""

    def wrong(self: Pending, address: str) -> None:
        if self.carrier == address:
            self.carrier = None

    patch.set(Pending, "on_lost", wrong)


@mutant(
    breaks="5.4: no number is skipped (T-39)",
    source="found by argument while the protocol was written",
    expects=("INV-33",),
)
def number_is_skipped(patch: Patch) -> None:
    """A request that was given up leaves its number unused."""
    fail: Callable[..., None] = vars(ClusterClient)["_fail_pending"]

    def wrong(self: ClusterClient, pending: Pending, failure: Failure) -> None:
        fail(self, pending, failure)
        pending.session.pending.pop(pending.number, None)

    patch.set(ClusterClient, "_fail_pending", wrong)


@mutant(
    breaks="5.4: retransmit until the deadline",
    source="the two generals: a request that got lost",
    expects=("INV-33",),
    equivalent="a connection over which nothing comes is given up, and what was sent there is sent again",
    pair="never-ask-again",
)
def ask_once(patch: Patch) -> None:
    """A request is sent once to each primary, and its answer is waited for."""

    def wrong(_self: ClusterClient, _attempt: int) -> int:
        return FAR

    patch.set(ClusterClient, "_delay", wrong)


@mutant(
    breaks="5.4: an answer belongs to its number",
    source="HTTP pipelining: answers matched by order",
    expects=("INV-19", "INV-22", "INV-18"),
)
def answers_in_order(patch: Patch) -> None:
    """An answer is taken for that of the oldest number under way."""
    hear: Callable[[ClusterClient, Link, int, Reply], None] = vars(ClusterClient)["_on_reply"]

    def wrong(self: ClusterClient, link: Link, replica: int, reply: Reply) -> None:
        session = _pool_of(self).sessions.get(reply.client)
        lowest = session.lowest if session is not None else None
        if reply.number and lowest is not None and lowest.number:
            reply = attrs.evolve(reply, number=lowest.number)
        hear(self, link, replica, reply)

    patch.set(ClusterClient, "_on_reply", wrong)


@mutant(
    breaks="5.4: never register again and resend silently (T-25)",
    source="ZooKeeper recipes after a session expired",
    expects=("INV-18", "INV-22"),
)
def resend_in_a_new_session(patch: Patch) -> None:
    """What was under way in a session that was evicted is sent again in the next one."""

    def wrong(self: ClusterClient, pending: Pending) -> None:
        pool, token = _pool_of(self), pending.token
        pool.settle(pending)
        if token is not None:
            pool.numbered.pop(token, None)
            pool.put(Submit(token, pending.code, pending.body, pending.deadline_ms))

    patch.set(ClusterClient, "_end_lost", wrong)


@mutant(
    breaks="5.4: not_primary names another",
    source="Raft homework: a client that stays with the leader that it knows",
    expects=("INV-33",),
)
def stay_with_the_old_primary(patch: Patch) -> None:
    """A client that knows a primary asks no other, whatever that one says."""

    def wrong(_self: Links, *_what: object) -> None:
        return

    patch.set(Links, "on_denies", wrong)


@mutant(
    breaks="5.4: retransmit until the deadline",
    source="the two generals: a request that got lost",
    expects=("INV-33",),
)
def never_ask_again(patch: Patch) -> None:
    """Whatever was sent is not sent again, whoever leads and whichever connection is lost."""
    resend: Callable[[ClusterClient], None] = vars(ClusterClient)["_resend"]

    def wrong(self: ClusterClient) -> None:
        for session in _pool_of(self).sessions.values():
            for pending in session.pending.values():
                if pending.attempts:
                    pending.resend_ms = FAR
        reads: Reads = vars(self)["_reads"]
        for read in reads.by_number.values():
            if read.attempts:
                read.resend_ms = FAR
        resend(self)

    patch.set(ClusterClient, "_resend", wrong)
