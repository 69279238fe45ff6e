"""A client's connections, and its search for the primary.

In good times one connection, to the primary, carries everything. When that is gone or silent while
something waits, all replicas are asked in parallel, a little staggered, until one acts as the primary:
by its greeting, by an answer, or because others point at it. Each connection has its own timer, so
there is no order of attempts in which one dead address holds up the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from enum import Enum
from random import Random

import attrs

from trio_pb.core.client_ports import ClientOptions, ClientOutput, Connect, Disconnect, Transmit
from trio_pb.core.messages import Greet, Greeted
from trio_pb.errors import ConfigError

__all__ = ["FAR", "Link", "LinkState", "Links"]

FAR = 1 << 62  # A time that never comes.


class LinkState(Enum):
    """How far a connection is."""

    IDLE = "idle"
    CONNECTING = "connecting"
    GREETING = "greeting"
    READY = "ready"


_IDLE, _READY = LinkState.IDLE, LinkState.READY  # Asked for in every step.


@attrs.define(eq=False)
class Link:
    """What is known of one address, and its connection if there is one."""

    address: str
    state: LinkState = LinkState.IDLE
    # IDLE: no attempt before; CONNECTING, GREETING: given up then; READY: not asked who leads before.
    due_ms: int = 0
    delay_ms: int = 0  # Of the next reconnection (IDLE) or question (READY); doubles.
    asked_ms: int = -FAR  # When it was last asked who leads.
    unanswered_since_ms: int | None = None  # READY, not the lead: asked since then, and nothing came.
    failures: int = 0  # In a row.
    replica: int | None = None  # Who lives there: by its own greeting, or as others advertise.
    connection: int = 0  # The replica's tag of this connection.
    view: int = 0  # The latest heard from there.
    is_foreign: bool = False  # Another cluster answered there.
    told: str = ""  # Why the last attempt failed.

    @property
    def is_ready(self) -> bool:
        """Whether requests can be sent."""
        return self.state is _READY


class Links:
    """All links of one client; `on_lost(address)` is called whenever a connection ends."""

    def __init__(
        self,
        addresses: Sequence[str],
        options: ClientOptions,
        random: Random,
        outputs: list[ClientOutput],
        on_lost: Callable[[str], None],
    ) -> None:
        if not addresses:
            raise ConfigError("a client needs the address of at least one replica")
        self._options = options
        self._random = random
        self._outputs = outputs
        self._on_lost = on_lost
        wanted = [*addresses, *([options.read_from] if options.read_from else [])]
        self.by_address: dict[str, Link] = {address: Link(address) for address in wanted}
        self.cluster = options.cluster
        self.lead: Link | None = None  # READY, and acts as the primary as far as we know.
        self.waiting_since_ms: int | None = None  # The lead has owed us an answer since then.
        self.request_size_max: int | None = None
        self.window = options.window_max
        self._view_max = 0
        self._seeking = False
        self._first = 0  # Where the next search begins, so that clients with equal lists differ over time.

    # --- Looking --------------------------------------------------------------------------------

    def ready(self) -> Link | None:
        """The lead, or else any link that can carry a read."""
        if self.lead is not None:
            return self.lead
        return next((link for link in self.by_address.values() if link.is_ready), None)

    def is_doubted(self, now_ms: int) -> bool:
        """Whether the lead has been silent for too long."""
        since = self.waiting_since_ms
        return since is not None and now_ms - since >= self._options.silence_ms

    @property
    def are_all_foreign(self) -> bool:
        """Whether every address belongs to another cluster."""
        return all(link.is_foreign for link in self.by_address.values())

    def explain(self) -> str:
        """Why nobody leads, in words for a person."""
        told = [f"{link.address}: {link.told}" for link in self.by_address.values() if link.told]
        return "; ".join(told) if told else "no replica answered"

    # --- Connections ----------------------------------------------------------------------------

    def on_connected(self, address: str) -> None:
        """Greet: the first frame of every connection."""
        link = self.by_address.get(address)
        if link is None or link.state is not LinkState.CONNECTING:
            return
        link.state = LinkState.GREETING
        self._outputs.append(Transmit(address, Greet(self._options.wire_versions, self.cluster)))

    def on_disconnected(self, address: str, reason: str, now_ms: int) -> None:
        """A connection ended, or could not be made."""
        link = self.by_address.get(address)
        if link is not None and link.state is not LinkState.IDLE:
            link.told = reason or "connection lost"
            self._down(link, now_ms)

    def on_greeted(self, link: Link, greeted: Greeted, now_ms: int) -> bool:
        """Learn who answered; return whether the link can be used."""
        if self.cluster is not None and greeted.cluster != self.cluster:
            self.on_foreign(link, f"belongs to cluster {greeted.cluster.hex()}, not {self.cluster.hex()}", now_ms)
            return False
        if greeted.wire_version not in self._options.wire_versions:
            self._fail(link, f"speaks wire version {greeted.wire_version}, which we do not", now_ms)
            return False
        self.cluster = greeted.cluster
        link.state = LinkState.READY
        link.replica = greeted.replica
        link.connection = greeted.connection
        link.failures = 0
        link.is_foreign = False
        link.told = "does not lead"
        link.due_ms, link.delay_ms = now_ms + self._options.poll_ms, self._options.poll_ms
        self.request_size_max = greeted.request_size_max
        self.window = max(1, min(greeted.window, self._options.window_max))
        for member in greeted.members:
            self._learn(member.replica, member.address)
        self.heard_view(link, greeted.view)
        if greeted.primary == greeted.replica:
            if greeted.view >= self._view_max:  # Else a primary that does not know yet that it is none.
                self.on_leads(link, now_ms)
        elif greeted.primary is not None:
            self.on_hint(greeted.primary, "", now_ms)
        return True

    def on_foreign(self, link: Link, text: str, now_ms: int) -> None:
        """The replica there belongs to another cluster than ours."""
        link.is_foreign = True
        self._fail(link, text, now_ms)

    def on_refused(self, link: Link, text: str, now_ms: int) -> None:
        """The replica there does not talk to us at all."""
        self._fail(link, text, now_ms)

    def heard_view(self, link: Link, view: int) -> None:
        """Note a view that a replica is in."""
        link.view = max(link.view, view)
        self._view_max = max(self._view_max, view)

    # --- Who leads ------------------------------------------------------------------------------

    def on_leads(self, link: Link, now_ms: int) -> None:
        """The replica of `link` acts as the primary: by its greeting or by how it answers."""
        lead = self.lead
        if lead is link:
            return
        if lead is not None and link.view <= lead.view and not self.is_doubted(now_ms):
            return
        self.lead = link
        self.waiting_since_ms = None
        link.told = ""

    def on_denies(self, link: Link, replica: int | None, address: str, now_ms: int) -> None:
        """The replica of `link` is not the primary, and may know who is."""
        link.told = "does not lead"
        if link is self.lead:
            self.lead = None
            self.waiting_since_ms = None
            link.due_ms, link.delay_ms = now_ms + self._options.poll_ms, self._options.poll_ms
        if replica is not None and replica != link.replica:
            self.on_hint(replica, address, now_ms)

    def on_hint(self, replica: int, address: str, now_ms: int) -> None:
        """Somebody says that `replica` leads: try it now, unless it just failed."""
        if address:
            self._learn(replica, address)
        candidates = [link for link in self.by_address.values() if link.replica == replica]
        for link in candidates:
            if link.state is not LinkState.IDLE:
                if link.is_ready and link is not self.lead:
                    # Two replicas that point at each other must not send us round in circles.
                    link.due_ms = min(link.due_ms, max(now_ms, link.asked_ms + self._options.poll_ms))
                return
        nearest = min(candidates, key=lambda link: (link.failures, link.due_ms), default=None)
        # A dead primary is pointed at until the next one is found: then its own back-off rules.
        if nearest is not None and (nearest.failures == 0 or nearest.due_ms <= now_ms):
            self._connect(nearest, now_ms)

    def on_answer_awaited(self, now_ms: int) -> None:
        """Something was sent to the lead."""
        if self.waiting_since_ms is None:
            self.waiting_since_ms = now_ms

    def on_answer(self, link: Link, now_ms: int, *, more_awaited: bool) -> None:
        """The replica of `link` said something."""
        link.unanswered_since_ms = None
        if link is self.lead:
            self.waiting_since_ms = now_ms if more_awaited else None

    # --- Timers ---------------------------------------------------------------------------------

    def on_timers(self, now_ms: int, *, has_work: bool, wanted: Collection[str]) -> list[Link]:
        """Connect, give up and close what is due; return the links to ask who leads.

        `wanted` are addresses that reads need besides the lead.
        """
        since_ms = self.waiting_since_ms
        if self.lead is not None and since_ms is not None and now_ms - since_ms >= self._options.drop_ms:
            self._fail(self.lead, f"silent for {self._options.drop_ms} ms", now_ms)
        for link in self.by_address.values():
            if link.state is _IDLE:
                continue
            if link.state is _READY:
                silent_ms = link.unanswered_since_ms
                if silent_ms is not None and now_ms - silent_ms >= self._options.drop_ms:
                    # Half open: the replica lost power and nobody told us. Only a new connection will tell.
                    self._fail(link, f"silent for {self._options.drop_ms} ms", now_ms)
            elif link.due_ms <= now_ms:
                self._fail(link, f"no greeting within {self._options.connect_timeout_ms} ms", now_ms)
        scouting = self._is_scouting(now_ms, has_work=has_work)
        self._seek(now_ms, scouting or self.ready() is None)
        asked: list[Link] = []
        for link in self.by_address.values():
            if link.state is _IDLE:
                if link.due_ms <= now_ms and (self._seeking or link.address in wanted):
                    self._connect(link, now_ms)
            elif self.lead is not None and not scouting:
                if link is not self.lead and link.address not in wanted:
                    self._close(link, now_ms)
            elif scouting and link.state is _READY and link is not self.lead and link.due_ms <= now_ms:
                link.asked_ms = now_ms
                if link.unanswered_since_ms is None:
                    link.unanswered_since_ms = now_ms
                link.due_ms = now_ms + self._jittered(link.delay_ms)
                link.delay_ms = min(link.delay_ms * 2, self._options.poll_ms_max)
                asked.append(link)
        return asked

    def next_deadline_ms(self, now_ms: int, *, has_work: bool, wanted: Collection[str]) -> int:
        """When `on_timers` has something to do next; FAR if never."""
        scouting = self._is_scouting(now_ms, has_work=has_work)
        earliest_ms = FAR
        if self.lead is not None and self.waiting_since_ms is not None:
            earliest_ms = self.waiting_since_ms + self._options.silence_ms
            if earliest_ms <= now_ms:
                earliest_ms = self.waiting_since_ms + self._options.drop_ms
        for link in self.by_address.values():
            if link.state is _IDLE:
                is_timed = self._seeking or link.address in wanted
            else:
                is_timed = link.state is not _READY or (scouting and link is not self.lead)
            if is_timed and link.due_ms < earliest_ms:
                earliest_ms = link.due_ms
        return earliest_ms

    # --- Inside ---------------------------------------------------------------------------------

    def _is_scouting(self, now_ms: int, *, has_work: bool) -> bool:
        return has_work and (self.lead is None or self.is_doubted(now_ms))

    def _seek(self, now_ms: int, needed: bool) -> None:
        """Begin or end trying all addresses; those tried first get a head start."""
        if needed and not self._seeking:
            links = list(self.by_address.values())
            order = links[self._first :] + links[: self._first]
            self._first = (self._first + 1) % len(links)
            for index, link in enumerate(order):
                if link.state is LinkState.IDLE:
                    link.due_ms = max(link.due_ms, now_ms + index * self._options.stagger_ms)
        self._seeking = needed

    def _connect(self, link: Link, now_ms: int) -> None:
        assert link.state is LinkState.IDLE, f"{link.address}: connected twice"
        link.state = LinkState.CONNECTING
        link.unanswered_since_ms = None
        link.due_ms = now_ms + self._options.connect_timeout_ms
        self._outputs.append(Connect(link.address))

    def _fail(self, link: Link, told: str, now_ms: int) -> None:
        """Close a connection that is of no use."""
        link.told = told
        self._outputs.append(Disconnect(link.address))
        self._down(link, now_ms)

    def _close(self, link: Link, now_ms: int) -> None:
        """Close a connection that is not needed any more; no fault of the replica."""
        self._outputs.append(Disconnect(link.address))
        link.state = LinkState.IDLE
        link.due_ms = now_ms
        self._on_lost(link.address)

    def _down(self, link: Link, now_ms: int) -> None:
        link.state = LinkState.IDLE
        link.failures += 1
        if link.failures == 1:
            link.delay_ms = self._options.reconnect_ms
        else:
            link.delay_ms = min(link.delay_ms * 2, self._options.reconnect_ms_max)
        link.due_ms = now_ms + self._jittered(link.delay_ms)
        if link is self.lead:
            self.lead = None
            self.waiting_since_ms = None
        self._on_lost(link.address)

    def _learn(self, replica: int, address: str) -> None:
        """Note where a replica says, or is said, to live."""
        if not address:
            return
        link = self.by_address.get(address)
        if link is None:
            if len(self.by_address) < self._options.addresses_max:
                self.by_address[address] = Link(address, replica=replica)
        elif link.state is not LinkState.READY:  # Its own greeting counts more.
            link.replica = replica

    def _jittered(self, delay_ms: int) -> int:
        """Between half of the delay and all of it, so that clients do not come in step."""
        return delay_ms - self._random.randrange(delay_ms // 2 + 1)
