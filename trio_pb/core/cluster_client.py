"""The client protocol as a pure machine: sessions, retries, redirects, deadlines (PROTOCOL 5.4, 10).

Requests become numbers of sessions (`session_pool`), which gives room for hundreds at once over one
connection. Every token given in comes out in exactly one `Completed`, and what that says of the effect
is certain: NOT_SENT and NOT_APPLIED never have one, SUCCESS has exactly one, UNKNOWN says so.
docs/explanation/client.md tells the same as a story.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from trio_pb.core.client_links import FAR, Link, Links, LinkState
from trio_pb.core.client_ports import (
    Cancel,
    ClientInput,
    ClientOptions,
    ClientOutput,
    Completed,
    Connected,
    Disconnected,
    Failure,
    OutcomeKind,
    Received,
    Submit,
    SubmitRead,
    Success,
    Transmit,
)
from trio_pb.core.client_reads import PendingRead, Reads
from trio_pb.core.messages import Greeted, ReadMode, Reject, RejectCode, Reply
from trio_pb.core.session_client import Pending, Session, client_id
from trio_pb.core.session_pool import SessionPool
from trio_pb.errors import ConfigError, LocalProtocolError

__all__ = ["ClusterClient"]

IDENTITY_SIZE = 16
READS_INDEX = (1 << 64) - 1  # Reads have a client id of their own, which never registers.
HEAP_SLACK = 1024

ELSEWHERE_CODES = frozenset({RejectCode.NOT_PRIMARY, RejectCode.RETIRED, RejectCode.WRONG_CLUSTER})
LATER_CODES = frozenset({RejectCode.BUSY, RejectCode.WINDOW})  # Said by a primary only.


class ClusterClient:
    """One client of one cluster. `identity` is 16 random bytes, new for every process."""

    def __init__(self, addresses: Sequence[str], identity: bytes, options: ClientOptions | None = None) -> None:
        if len(identity) != IDENTITY_SIZE:
            raise ConfigError(f"client identity: {len(identity)} bytes, must be {IDENTITY_SIZE}")
        self._options = options or ClientOptions()
        self._random = Random(identity + self._options.seed.to_bytes(16, "big"))
        self._now_ms = 0
        self._outputs: list[ClientOutput] = []
        self._links = Links(addresses, self._options, self._random, self._outputs, self._on_link_lost)
        self._reads = Reads(client_id(identity, READS_INDEX), self._options, self._links)
        self._pool = SessionPool(identity, self._options.sessions_max)
        self._deadlines: list[tuple[int, int]] = []  # Heap of (deadline_ms, token); completed ones linger.
        self._sweep_ms = FAR  # No resend is due before.
        self._is_disk_full = False  # The primary said so last, and has ordered nothing since.
        # Any: each method takes its own input type; the table pairs them.
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            Connected: self._on_connected,
            Disconnected: self._on_disconnected,
            Received: self._on_received,
            Submit: self._on_submit,
            SubmitRead: self._on_submit_read,
            Cancel: self._on_cancel,
        }

    # --- The seam -------------------------------------------------------------------------------

    def step(self, now_ms: int, inputs: Sequence[ClientInput]) -> list[ClientOutput]:
        """Take what happened and return what to do. Timers that are due fire in any step.

        Raises:
            LocalProtocolError: time ran back, or a token was used twice.
        """
        if now_ms < self._now_ms:
            raise LocalProtocolError(f"time ran back from {self._now_ms} to {now_ms} ms")
        self._now_ms = now_ms
        for item in inputs:
            self._handlers[type(item)](item)
        self._expire()
        self._seek_primary()
        self._resend()
        self._pump()
        outputs = self._outputs.copy()
        self._outputs.clear()  # In place: the links write to the same list.
        return outputs

    @property
    def next_deadline_ms(self) -> int | None:
        """When the next step is due even without inputs: always later than the last step."""
        deadline_ms = self._links.next_deadline_ms(self._now_ms, has_work=self.has_work, wanted=self._reads.wanted())
        if self._links.ready() is not None:
            deadline_ms = min(deadline_ms, self._sweep_ms)
        if self._deadlines:
            deadline_ms = min(deadline_ms, self._deadlines[0][0])
        return None if deadline_ms == FAR else deadline_ms

    @property
    def cluster(self) -> bytes | None:
        """The cluster that this client belongs to; None before the first greeting."""
        return self._links.cluster

    @property
    def primary(self) -> int | None:
        """The replica that requests go to now."""
        lead = self._links.lead
        return lead.replica if lead is not None else None

    @property
    def has_work(self) -> bool:
        """Whether anything waits for an answer, be it only a number that must be used up."""
        return bool(self._reads.by_number) or self._pool.is_working

    @property
    def outstanding(self) -> int:
        """Tokens without an outcome."""
        return self._pool.outstanding + len(self._reads.by_token)

    def explain(self) -> str:
        """Why nobody leads, in words for a person."""
        return self._links.explain()

    # --- Callers --------------------------------------------------------------------------------

    def _on_submit(self, submit: Submit) -> None:
        if self._accept(submit.token, submit.body, submit.deadline_ms):
            self._pool.put(submit)

    def _on_submit_read(self, submit: SubmitRead) -> None:
        # A page of a scan can come from one replica alone, and that may be gone for good.
        kept_until_ms = max(self._reads.kept_until_ms(submit.cursor), self._now_ms + 1)
        if self._accept(submit.token, submit.body, min(submit.deadline_ms, kept_until_ms)):
            failure = self._reads.add(submit, self._now_ms)
            if failure is not None:
                self._complete(submit.token, failure)
            self._sweep_ms = min(self._sweep_ms, self._now_ms)

    def _on_cancel(self, cancel: Cancel) -> None:
        self._give_up(cancel.token, "cancelled")

    def _accept(self, token: int, body: bytes, deadline_ms: int) -> bool:
        """Check what can be checked here; complete at once what cannot be taken."""
        if self._is_live(token):
            raise LocalProtocolError(f"token {token} is in use")
        if self._refuse_size(token, body):
            return False
        if self.outstanding >= self._options.queue_max:
            text = f"{self._options.queue_max} requests wait already"
            self._complete(token, Failure(OutcomeKind.NOT_SENT, "queue_full", text))
            return False
        if deadline_ms <= self._now_ms:
            self._complete(token, Failure(OutcomeKind.NOT_SENT, "deadline", "the deadline had passed already"))
            return False
        heapq.heappush(self._deadlines, (deadline_ms, token))
        if len(self._deadlines) > 2 * self.outstanding + HEAP_SLACK:
            self._deadlines = [entry for entry in self._deadlines if entry[1] == token or self._is_live(entry[1])]
            heapq.heapify(self._deadlines)
        return True

    def _refuse_size(self, token: int, body: bytes) -> bool:
        """Complete a request that the cluster would refuse for its size, without bothering it."""
        limit = self._links.request_size_max
        if limit is None or len(body) <= limit:
            return False
        text = f"a request body of {len(body)} bytes; this cluster takes {limit}"
        self._complete(token, Failure(OutcomeKind.NOT_APPLIED, "too_large", text))
        return True

    def _is_live(self, token: int) -> bool:
        return token in self._pool or token in self._reads.by_token

    # --- Connections ----------------------------------------------------------------------------

    def _on_connected(self, event: Connected) -> None:
        self._links.on_connected(event.address)

    def _on_disconnected(self, event: Disconnected) -> None:
        self._links.on_disconnected(event.address, event.reason, self._now_ms)

    def _on_link_lost(self, address: str) -> None:
        """No answer comes from `address` any more: what was sent there is uncertain, and sent again."""
        for read in self._reads.by_number.values():
            if read.carrier == address:
                read.carrier = None
                read.resend_ms = self._now_ms
        self._sweep_ms = self._now_ms  # A read may have waited for this connection: it goes elsewhere now.
        for session in list(self._pool.sessions.values()):
            for pending in list(session.pending.values()):
                pending.on_lost(address)
                if session.is_lost and not pending.certain:
                    self._end_lost(pending)

    def _on_received(self, event: Received) -> None:
        link = self._links.by_address.get(event.address)
        if link is None:
            return
        message = event.message
        if link.state is LinkState.GREETING:
            self._on_greeting(link, message)
        if not link.is_ready:
            return
        self._links.heard_view(link, event.envelope.view)
        if type(message) is Reply:
            self._on_reply(link, event.envelope.replica, message)
        elif type(message) is Reject:
            self._on_reject(link, message)
        self._links.on_answer(link, self._now_ms, more_awaited=self.has_work)

    def _on_greeting(self, link: Link, message: object) -> None:
        """The first answer over a connection."""
        lead = self._links.lead
        if type(message) is Greeted:
            if self._links.on_greeted(link, message, self._now_ms):
                self._sweep_ms = self._now_ms
                for submit in self._pool.queued:
                    self._refuse_size(submit.token, submit.body)
        elif type(message) is Reject and message.code is RejectCode.WRONG_CLUSTER:
            self._links.on_foreign(link, "belongs to another cluster", self._now_ms)
        elif type(message) is Reject:
            self._links.on_refused(link, f"refuses us: {message.code.name.lower()}", self._now_ms)
        self._note_lead(lead)
        if self._links.are_all_foreign:
            for submit in self._pool.queued:
                text = f"no address belongs to our cluster: {self._links.explain()}"
                self._complete(submit.token, Failure(OutcomeKind.NOT_SENT, "wrong_cluster", text))

    def _note_lead(self, before: Link | None) -> None:
        """After something that may have changed the lead: a new one is sent all that waits."""
        lead = self._links.lead
        if lead is None or lead is before:
            return
        self._is_disk_full = False
        for session in self._pool.sessions.values():
            if not session.is_lost:
                for pending in session.pending.values():
                    pending.resend_ms = self._now_ms
        for read in self._reads.by_number.values():
            if read.mode is ReadMode.LINEARIZABLE:
                read.resend_ms = self._now_ms
        self._sweep_ms = self._now_ms

    def _acts_as_primary(self, link: Link) -> None:
        lead = self._links.lead
        if lead is not link:
            self._links.on_leads(link, self._now_ms)
            self._note_lead(lead)

    # --- Answers --------------------------------------------------------------------------------

    def _on_reply(self, link: Link, replica: int, reply: Reply) -> None:
        if reply.client == self._reads.client:
            self._on_read_reply(link, replica, reply)
            return
        pending = self._pool.find(reply.client, reply.number)
        if pending is None:
            return  # The answer to an earlier transmission came first.
        session = pending.session
        if reply.number == 0:
            if reply.session:
                session.on_registered(reply.session)
                self._acts_as_primary(link)
                self._is_disk_full = False
            return
        if reply.session != session.number:
            return
        self._acts_as_primary(link)
        self._is_disk_full = False
        self._pool.settle(pending)
        if pending.token is not None:
            self._complete(pending.token, Success(reply, replica, link.connection))

    def _on_read_reply(self, link: Link, replica: int, reply: Reply) -> None:
        read = self._reads.by_number.get(reply.number)
        if read is None:
            return
        if read.mode is ReadMode.LINEARIZABLE:
            self._acts_as_primary(link)
        if reply.cursor:
            self._reads.remember_cursor(reply.cursor, link.address, self._now_ms)
        self._complete(read.submit.token, Success(reply, replica, link.connection))

    def _on_reject(self, link: Link, reject: Reject) -> None:
        if reject.code in ELSEWHERE_CODES:
            self._links.on_denies(link, reject.primary, reject.primary_address, self._now_ms)
        if reject.client == self._reads.client:
            read = self._reads.by_number.get(reject.number)
            if read is not None:
                failure = self._reads.on_reject(read, link, reject, self._now_ms)
                if failure is not None:
                    self._complete(read.submit.token, failure)
                else:
                    self._sweep_ms = min(self._sweep_ms, read.resend_ms)
            return
        pending = self._pool.find(reject.client, reject.number)
        if pending is None or reject.session != pending.session.number:
            return
        session = pending.session
        pending.on_refused(link.address, reject.code.name.lower())
        if session.is_lost:
            self._end_lost(pending)
        elif reject.code in ELSEWHERE_CODES:
            self._resend_at(pending, self._now_ms)
        elif reject.code in LATER_CODES:
            self._acts_as_primary(link)
            self._wait_for_room(pending, reject)
        elif reject.code is RejectCode.DISK_FULL:
            self._acts_as_primary(link)
            self._on_disk_full(link, pending)
        elif reject.code is RejectCode.NO_SESSION and pending.number != 0:
            self._acts_as_primary(link)
            self._lose_session(session)
        elif reject.code is RejectCode.STALE and pending.number != 0:
            self._on_forgotten(pending)
        else:
            self._on_final_refusal(link, pending)

    def _wait_for_room(self, pending: Pending, reject: Reject) -> None:
        """The primary takes no more now: try again when it says, if that is still in time."""
        delay_ms = max(reject.retry_ms, self._options.poll_ms)
        resend_ms = self._now_ms + delay_ms + self._random.randrange(delay_ms // 2 + 1)
        if pending.token is not None and pending.has_no_effect and resend_ms >= pending.deadline_ms:
            text = f"the primary was busy; it asks to wait {reject.retry_ms} ms, past the deadline"
            failure = Failure(OutcomeKind.NOT_APPLIED, pending.refusal, text, reject.retry_ms)
            self._fail_pending(pending, failure)
        self._resend_at(pending, resend_ms)

    def _on_final_refusal(self, link: Link, pending: Pending) -> None:
        """A refusal that no retry changes: definite if nothing of this number can be under way."""
        if pending.token is not None and pending.has_no_effect:
            text = f"replica {link.replica} refused the request: {pending.refusal}"
            self._fail_pending(pending, Failure(OutcomeKind.NOT_APPLIED, pending.refusal, text))
            self._resend_at(pending, self._now_ms)
        else:
            self._resend_at(pending, self._now_ms + self._retransmit_delay(pending))

    def _on_disk_full(self, link: Link, pending: Pending) -> None:
        """The primary orders nothing before there is space.

        So it would refuse as well what has no number yet, for want of a session or of room in one.
        """
        self._is_disk_full = True
        if pending.token is not None:
            self._on_final_refusal(link, pending)
            return
        for submit in self._pool.queued:
            self._complete(submit.token, _full(link.replica))
        # Not doubled: this number holds up those that come after it once there is space again.
        delay_ms = self._options.retransmit_ms
        self._resend_at(pending, self._now_ms + delay_ms + self._random.randrange(delay_ms // 4 + 1))

    def _on_forgotten(self, pending: Pending) -> None:
        """The number was executed and its reply is not kept any more (the window excludes it)."""
        self._pool.settle(pending)
        if pending.token is not None:
            text = "this number was executed before and its reply is not kept any more"
            self._complete(pending.token, Failure(OutcomeKind.UNKNOWN, "stale", text))

    # --- The end of a session -------------------------------------------------------------------

    def _lose_session(self, session: Session) -> None:
        """The cluster evicted the session: it executes nothing more (PROTOCOL 5.4).

        What is under way for the first time waits for its own refusal, a little: then it certainly
        had no effect. Nothing is sent again, neither in this session nor in the next.
        """
        self._pool.lose(session)
        for pending in list(session.pending.values()):
            if pending.token is None or pending.carrier is None or not pending.certain:
                self._end_lost(pending)
            else:
                self._resend_at(pending, self._now_ms + self._options.retransmit_ms)

    def _end_lost(self, pending: Pending) -> None:
        """Give a number of a lost session its outcome."""
        self._pool.settle(pending)
        if pending.token is None:
            return
        if pending.has_no_effect:
            text = "the cluster had evicted our session before this request came; it was not executed"
            self._complete(pending.token, Failure(OutcomeKind.NOT_APPLIED, "no_session", text))
        else:
            text = "the cluster evicted our session and cannot tell any more whether this request was executed"
            self._complete(pending.token, Failure(OutcomeKind.UNKNOWN, "session_lost", text))

    # --- Outcomes -------------------------------------------------------------------------------

    def _complete(self, token: int, outcome: Success | Failure) -> None:
        """The one place where a token gets its outcome."""
        self._pool.remove(token)
        read = self._reads.by_token.get(token)
        if read is not None:
            self._reads.remove(read)
        self._outputs.append(Completed(token, outcome))

    def _fail_pending(self, pending: Pending, failure: Failure) -> None:
        """Give up on a request whose number must still be used up."""
        assert pending.token is not None
        self._complete(pending.token, failure)
        pending.become_empty()

    def _give_up(self, token: int, reason: str) -> None:
        """Complete `token` with what is certain now."""
        pending = self._pool.numbered.get(token)
        if self._pool.is_queued(token) and self._is_disk_full and reason == "deadline":
            self._complete(token, _full(self.primary))
        elif self._pool.is_queued(token):
            self._complete(token, Failure(OutcomeKind.NOT_SENT, reason, f"never sent: {self._links.explain()}"))
        elif pending is not None:
            if pending.has_no_effect:
                text = f"refused whenever it was sent, last because: {pending.refusal}"
                why = pending.refusal if reason == "deadline" and pending.refusal else reason
                failure = Failure(OutcomeKind.NOT_APPLIED, why, text)
            else:
                text = f"sent {pending.attempts} times, no answer that settles it"
                failure = Failure(OutcomeKind.UNKNOWN, reason, text)
            if pending.session.is_lost:
                self._pool.settle(pending)
                self._complete(token, failure)
            else:
                self._fail_pending(pending, failure)
                if pending.carrier is None:
                    self._resend_at(pending, self._now_ms)
        elif token in self._reads.by_token:
            self._complete(token, self._reads.given_up(self._reads.by_token[token], reason, self._now_ms))

    def _expire(self) -> None:
        """Complete what is past its deadline."""
        while self._deadlines and (self._deadlines[0][0] <= self._now_ms or not self._is_live(self._deadlines[0][1])):
            _, token = heapq.heappop(self._deadlines)
            self._give_up(token, "deadline")

    # --- Sending --------------------------------------------------------------------------------

    def _seek_primary(self) -> None:
        """Drive the connections; ask those who leads by sending something that waits anyway."""
        for link in self._links.on_timers(self._now_ms, has_work=self.has_work, wanted=self._reads.wanted()):
            self._scout(link)

    def _scout(self, link: Link) -> None:
        """Send one waiting thing to a replica that may not lead: its refusal costs nothing.

        What has no transmission under way comes first, so that certainty is not spent; and of each
        session only the lowest number, since a primary would hold any other without an answer.
        """
        stale_ms = self._now_ms - self._options.poll_ms_max
        chosen: Pending | PendingRead | None = None
        for candidate in self._scouts():
            if candidate.carrier is None:
                chosen = candidate
                break
            if chosen is None and candidate.sent_ms <= stale_ms and candidate.carrier != link.address:
                chosen = candidate
        if chosen is None or chosen.carrier is not None:
            chosen = self._pool.take_one(self._links.window) or chosen
        if type(chosen) is PendingRead:
            self._send_read(chosen, link)
        elif type(chosen) is Pending:
            self._send(chosen, link)

    def _scouts(self) -> Iterator[Pending | PendingRead]:
        for read in self._reads.by_number.values():
            if read.mode is ReadMode.LINEARIZABLE and read.address is None:
                yield read
        yield from self._pool.lowest()

    def _resend(self) -> None:
        """Transmit what waits and is due."""
        if self._sweep_ms > self._now_ms:
            return
        self._sweep_ms = FAR
        lead = self._links.lead
        for session in list(self._pool.sessions.values()):
            for pending in list(session.pending.values()):
                if pending.resend_ms <= self._now_ms:
                    if session.is_lost:
                        self._end_lost(pending)
                    elif lead is not None:
                        self._send(pending, lead)
                else:
                    self._sweep_ms = min(self._sweep_ms, pending.resend_ms)
        for read in self._reads.by_number.values():
            if read.resend_ms <= self._now_ms:
                link = self._reads.link_for(read)
                if link is not None:
                    self._send_read(read, link)
            else:
                self._sweep_ms = min(self._sweep_ms, read.resend_ms)

    def _pump(self) -> None:
        """Give numbers to queued requests as far as the windows allow, and send them."""
        lead = self._links.lead
        if lead is None or self._links.is_doubted(self._now_ms):
            return  # What is not sent cannot become uncertain.
        for pending in self._pool.take(self._links.window):
            self._send(pending, lead)

    def _send(self, pending: Pending, link: Link) -> None:
        pending.on_sent(link.address, self._now_ms, self._now_ms + self._retransmit_delay(pending))
        self._sweep_ms = min(self._sweep_ms, pending.resend_ms)
        self._outputs.append(Transmit(link.address, pending.message()))
        if link is self._links.lead:
            self._links.on_answer_awaited(self._now_ms)

    def _send_read(self, read: PendingRead, link: Link) -> None:
        read.carrier = link.address
        read.attempts += 1
        read.sent_ms = self._now_ms
        self._resend_read_at(read, self._now_ms + self._delay(read.attempts))
        self._outputs.append(Transmit(link.address, self._reads.message(read)))
        if link is self._links.lead:
            self._links.on_answer_awaited(self._now_ms)

    def _resend_at(self, pending: Pending, resend_ms: int) -> None:
        pending.resend_ms = resend_ms
        self._sweep_ms = min(self._sweep_ms, resend_ms)

    def _resend_read_at(self, read: PendingRead, resend_ms: int) -> None:
        read.resend_ms = resend_ms
        self._sweep_ms = min(self._sweep_ms, resend_ms)

    def _retransmit_delay(self, pending: Pending) -> int:
        return self._delay(pending.attempts + 1)

    def _delay(self, attempt: int) -> int:
        """How long attempt number `attempt` (from 1) waits for its answer: doubling, with jitter."""
        delay_ms = min(self._options.retransmit_ms << min(attempt - 1, 16), self._options.retransmit_ms_max)
        return delay_ms + int(self._random.random() * (delay_ms // 4 + 1))  # randrange costs five times as much.


def _full(replica: int | None) -> Failure:
    """The outcome of a request that was not sent because others are refused for want of space."""
    where = "the primary" if replica is None else f"replica {replica}, the primary"
    text = f"the disk of {where} is full; no request is taken before there is space"
    return Failure(OutcomeKind.NOT_APPLIED, "disk_full", text)
