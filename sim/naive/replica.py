"""Textbook primary-backup: views, majorities, one log. Correct as it stands; the mistakes are in `mistakes`.

View v is led by replica v mod n, and R0 leads from the start. The primary gives every order the next position
in its log and forwards it to the backups; when a majority has it, itself included, the order is committed,
executed and answered. A backup that hears nothing for a while asks to take over: in a view of its own, once
a majority follows it and showed it their logs.

What makes it a teaching protocol is what it leaves out: logs travel whole and are never cut, disks never fail,
clients have one request at a time, and two replicas may stand for election against each other for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sim.naive.ports import (
    Acknowledge,
    Apply,
    AskLog,
    ClientMessage,
    Entry,
    Follow,
    Forward,
    Heartbeat,
    Input,
    LogCopy,
    Order,
    Output,
    PeerMessage,
    Read,
    Receive,
    Redirect,
    Reply,
    Save,
    Saved,
    Send,
    Start,
    TakeOver,
    ToClient,
)

__all__ = ["Replica"]

HEARTBEAT_TICKS = 15
SILENCE_TICKS = 35  # Without a word of the primary until the next in line stands.
SILENCE_STEP_TICKS = 20  # Each one further down the line waits that much longer.
UNREACHABLE_TICKS = 20  # More than a heartbeat: who has not answered in that time does not answer.


class Replica:
    """One replica; pure: all that it knows comes in by `step`, all that it does goes out of it."""

    def __init__(self, number: int, replicas: int) -> None:
        self.number = number
        self.replicas = replicas
        self.view = 0
        self.log_view = 0  # The last view whose log this is.
        self.log: list[Entry] = []
        self.committed = 0
        self.executed = 0
        self.laptops: dict[int, list[str]] = {}  # The state machine: by customer, what was ordered.
        self.answers: dict[tuple[int, int], Reply] = {}  # By client and number: what is said to a retry.
        self.acknowledged: dict[int, int] = {}  # As primary: by backup, up to where it has my log.
        self.beats: dict[int, int] = {}  # As primary: by backup, the last heartbeat that it answered.
        self.heard_tick: dict[int, int] = {}  # As primary: by backup, when it last answered.
        self.followers: dict[int, Follow] = {}  # As one who would take over: by replica, what it showed.
        self.inherited = 0  # As primary: so many orders were in the log when the view began.
        self._beat = 0
        self._reads: list[tuple[Read, int]] = []  # With the heartbeat that must be answered first.
        self._now = 0
        self._due = 0  # The next heartbeat, or the end of patience.
        self._outputs: list[Output] = []
        # Each takes (source, message), whose class the table knows and the checker does not: hence Any.
        self._handlers: Mapping[type[PeerMessage | ClientMessage], Callable[[int, Any], None]] = {
            Order: self.on_order,
            Read: self.on_read,
            Forward: self.on_forward,
            Heartbeat: self.on_heartbeat,
            Acknowledge: self.on_acknowledge,
            AskLog: self.on_ask_log,
            LogCopy: self.on_log_copy,
            TakeOver: self.on_take_over,
            Follow: self.on_follow,
        }

    # --- The seam -------------------------------------------------------------------------------

    def step(self, now_tick: int, inputs: Sequence[Input]) -> list[Output]:
        """Take what happened, return what is to be done, in that order."""
        assert now_tick >= self._now, "time ran back"
        self._now = now_tick
        for item in inputs:
            if type(item) is Start:
                self.on_start(item.saved)
            elif type(item) is Receive:
                self._handlers[type(item.message)](item.source, item.message)
            elif now_tick >= self._due:
                self.on_timeout()
        outputs, self._outputs = self._outputs, []
        return outputs

    @property
    def due_tick(self) -> int:
        """When it wants to hear of the time."""
        return self._due

    @property
    def is_primary(self) -> bool:
        """Whether it leads its view."""
        return self.primary == self.number and self.log_view == self.view

    @property
    def primary(self) -> int:
        """Who leads the view that it is in."""
        return self.view % self.replicas

    def on_start(self, saved: Saved) -> None:
        """Take up what the disk has; a backup that had something asks the primary for the rest."""
        self.view, self.log_view, self.log = saved.view, saved.log_view, list(saved.log)
        if self.is_primary:
            self._begin_to_lead()
        else:
            self._wait_for_primary()
            if self.log:
                self._to_peers(AskLog(self.view, 0))

    # --- Orders ---------------------------------------------------------------------------------

    def on_order(self, client: int, order: Order) -> None:
        """As primary: give a new order its position and forward it; answer an old one again."""
        if not self.is_primary:
            self.on_order_at_backup(client, order)
            return
        position = self.position_of(order)
        if position is None:
            self.log.append(order)
            self.save()
            self._to_peers(Forward(self.view, len(self.log), order, self.committed))
            self._advance()
        elif position <= self.executed:
            self._emit(ToClient(client, self.answers[order.client, order.number]))

    def on_order_at_backup(self, client: int, order: Order) -> None:
        """Orders are the primary's."""
        self._emit(ToClient(client, Redirect(order.number, self.primary)))

    def position_of(self, order: Order) -> int | None:
        """Where the log has this very request already: a retry is not another order."""
        for position, entry in enumerate(self.log, 1):
            if (entry.client, entry.number) == (order.client, order.number):
                return position
        return None

    def on_forward(self, source: int, message: Forward) -> None:
        """As backup: append the next order and acknowledge."""
        if not self._follows(source, message.view):
            return
        if message.position == len(self.log) + 1:
            self.log.append(message.entry)
            self.save()
        elif message.position > len(self.log):
            self._emit(Send(source, AskLog(self.view, len(self.log))))
        self._emit(Send(source, Acknowledge(self.view, len(self.log), 0)))
        self._commit(message.committed)

    def on_acknowledge(self, source: int, message: Acknowledge) -> None:
        """As primary: note how far a backup is."""
        if not self.is_primary or message.view != self.view:
            return
        self.heard_tick[source] = self._now
        self.acknowledged[source] = max(self.acknowledged.get(source, 0), message.position)
        self.beats[source] = max(self.beats.get(source, 0), message.beat)
        self._advance()
        self._answer_reads()

    def holders(self, position: int) -> set[int]:
        """As primary: who has the log up to `position`."""
        return {self.number, *(peer for peer, until in self.acknowledged.items() if until >= position)}

    def is_replicated(self, position: int) -> bool:
        """As primary: whether enough have it for it to survive the loss of any minority."""
        return len(self.holders(position)) > self.replicas // 2

    def _advance(self) -> None:
        while self.committed < len(self.log) and self.is_replicated(self.committed + 1):
            self.committed += 1
        self._execute()

    def _commit(self, committed: int) -> None:
        self.committed = max(self.committed, min(committed, len(self.log)))
        self._execute()

    def executable(self) -> int:
        """Up to where the log may be executed."""
        return self.committed

    def _execute(self) -> None:
        while self.executed < self.executable():
            entry = self.log[self.executed]
            self.executed += 1
            self.laptops.setdefault(entry.customer, []).append(entry.laptop)
            reply = Reply(entry.number, self.executed, self._laptops_of(entry.customer))
            self.answers[entry.client, entry.number] = reply
            self._emit(Apply(self.executed, entry))
            if self.is_primary and self.executed > self.inherited:
                self._emit(ToClient(entry.client, reply))  # Whoever took it answers; others, when asked again.

    # --- Reads ----------------------------------------------------------------------------------

    def on_read(self, client: int, read: Read) -> None:
        """As primary: answer from the executed state, once a majority confirms that nobody took over since."""
        if not self.is_primary:
            self._emit(ToClient(client, Redirect(read.number, self.primary)))
            return
        self._reads.append((read, self._beat + 1))
        self._send_heartbeat()

    def _answer_reads(self) -> None:
        if self.committed < self.inherited:
            return  # What was acknowledged in earlier views is among it.
        waiting, self._reads = self._reads, []
        for read, beat in waiting:
            echoes = sum(1 for heard in self.beats.values() if heard >= beat)
            if 1 + echoes > self.replicas // 2:
                self._answer_read(read)
            else:
                self._reads.append((read, beat))

    def _answer_read(self, read: Read) -> None:
        self._emit(ToClient(read.client, Reply(read.number, self.executed, self._laptops_of(read.customer))))

    def _laptops_of(self, customer: int) -> tuple[str, ...]:
        return tuple(self.laptops.get(customer, ()))

    # --- Heartbeats and repair --------------------------------------------------------------------

    def on_timeout(self) -> None:
        """A heartbeat is due, or patience is at an end."""
        if self.is_primary:
            self._send_heartbeat()
            self._advance()
        else:
            self._wait_for_primary()
            self.on_silence()

    def _send_heartbeat(self) -> None:
        self._beat += 1
        self._due = self._now + HEARTBEAT_TICKS
        self._to_peers(Heartbeat(self.view, len(self.log), self.committed, self._beat))

    def on_heartbeat(self, source: int, message: Heartbeat) -> None:
        """As backup: learn what is committed, and what is missing."""
        if not self._follows(source, message.view):
            return
        if message.position > len(self.log):
            self._emit(Send(source, AskLog(self.view, len(self.log))))
        self._commit(message.committed)
        self._emit(Send(source, Acknowledge(self.view, len(self.log), message.beat)))

    def on_ask_log(self, source: int, message: AskLog) -> None:
        """As primary: send what a backup lacks."""
        if self.is_primary and message.view <= self.view:
            first = message.first if message.view == self.view else 0
            self._emit(Send(source, LogCopy(self.view, first, tuple(self.log[first:]), self.committed)))

    def on_log_copy(self, source: int, message: LogCopy) -> None:
        """As backup: take over the log of a new view as a whole, or fill what is missing in this view's."""
        if message.view < self.view:
            return
        if message.view > self.view or self.log_view < message.view:
            if message.first > 0:
                self._emit(Send(source, AskLog(self.view, 0)))
                return
            self._enter(message.view)
            self.install(message.entries)
            self.log_view = message.view
        elif message.first <= len(self.log):
            self.fill(message.first, message.entries)
        self._wait_for_primary()
        self.save()
        self._emit(Send(source, Acknowledge(self.view, len(self.log), 0)))
        self._commit(message.committed)

    def install(self, entries: Sequence[Entry]) -> None:
        """The log of a new view takes the place of the old: what is not in it was never committed."""
        self.log = list(entries)

    def fill(self, first: int, entries: Sequence[Entry]) -> None:
        """Each entry has its place: what is there already is not added again."""
        self.log[first : first + len(entries)] = entries

    # --- Views ------------------------------------------------------------------------------------

    def on_silence(self) -> None:
        """Stand for the next view that would be mine."""
        self._enter(self.next_own_view())
        self.save()
        self.followers = {self.number: Follow(self.view, self.log_view, tuple(self.log))}
        self._to_peers(TakeOver(self.view))

    def next_own_view(self) -> int:
        """The least view after this one that I lead."""
        return self.view + 1 + (self.number - self.view - 1) % self.replicas

    def on_take_over(self, source: int, message: TakeOver) -> None:
        """Follow who leads a later view, and never again anyone of an earlier one."""
        if message.view > self.view:
            self._enter(message.view)
            self.save()
        if message.view == self.view and self.log_view < self.view:
            self._emit(Send(source, Follow(self.view, self.log_view, tuple(self.log))))

    def on_follow(self, source: int, message: Follow) -> None:
        """Lead, once a majority follows, with the best of their logs."""
        if message.view != self.view or self.log_view == self.view:
            return
        self.followers[source] = message
        if len(self.followers) > self.replicas // 2:
            self.lead(self.best(self.followers.values()))

    def best(self, shown: Iterable[Follow]) -> Sequence[Entry]:
        """The log of the latest view, and of those the longest: it has all that was ever committed."""
        return max(shown, key=lambda follow: (follow.log_view, len(follow.log))).log

    def lead(self, log: Sequence[Entry]) -> None:
        """Begin this view with that log."""
        self.log = list(log)
        self.log_view = self.view
        self.save()
        self._begin_to_lead()
        self._to_peers(LogCopy(self.view, 0, tuple(self.log), self.committed))

    def _begin_to_lead(self) -> None:
        self.inherited = len(self.log)
        self.acknowledged, self.beats, self._reads = {}, {}, []
        self.heard_tick = dict.fromkeys(self._peers(), self._now)
        self._due = self._now + HEARTBEAT_TICKS
        self._advance()

    def _enter(self, view: int) -> None:
        if view > self.view:
            self.view = view
            self.followers, self._reads = {}, []
            self._wait_for_primary()

    def _follows(self, source: int, view: int) -> bool:
        """Whether a message of the primary of `view` counts for me."""
        if view < self.view:
            return False
        self._enter(view)
        if self.log_view < view:
            self._emit(Send(source, AskLog(self.log_view, 0)))
            return False
        self._wait_for_primary()
        return True

    def _wait_for_primary(self) -> None:
        line = (self.number - self.primary - 1) % self.replicas
        self._due = self._now + SILENCE_TICKS + SILENCE_STEP_TICKS * line

    # --- Outputs ----------------------------------------------------------------------------------

    def save(self) -> None:
        """Write what must not be forgotten, before anybody hears of it."""
        self._emit(Save(Saved(self.view, self.log_view, tuple(self.log))))

    def _peers(self) -> list[int]:
        return [number for number in range(self.replicas) if number != self.number]

    def _to_peers(self, message: PeerMessage) -> None:
        for peer in self._peers():  # One after the other, as in the textbook.
            self._emit(Send(peer, message))

    def _emit(self, output: Output) -> None:
        self._outputs.append(output)
