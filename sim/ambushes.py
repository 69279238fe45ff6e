"""Faults aimed at the primary: short scripts that bring about what chance alone rarely does.

Each leaves the cluster where one rule of the protocol alone decides: a tail that only a deposed primary
holds, a read that waits at one, a primary that is back before anybody missed it.
"""

from __future__ import annotations

from collections.abc import Callable

from sim.choices import Choices, Key
from sim.client import SimClient
from sim.cluster import SimCluster
from sim.network import Payload
from sim.replica import SimReplica
from sim.workload import Operation
from trio_pb.core.messages import PrepareCopy, PrepareMessage

__all__ = ["AMBUSHES", "Ambushes"]

MS = 1000  # Microseconds.
READER = 255  # In tokens, the number of the client that ambushes read with.
PATIENCE = 5 * MS  # Between two looks for a primary.
REPLACED_LOOKS = 600  # For another one, before the old is let go anyway.
COMMIT_LOOKS = 1500  # For the first commit of a new primary, a millisecond each.
ASKED = 0.3  # Of the lonely primaries.
ASKS = (1 * MS, 10 * MS, 40 * MS, 80 * MS)  # After the first commit of their successors.
QUICK_LOOKS = 60  # For a planned crash to have happened, a millisecond each.
COPY_LOOKS = 300  # For backups to ask for what did not come, a millisecond each.
LATE = 3000 * MS  # What is held up comes that much later by itself.
AMBUSHES = ("lonely primary", "deaf primary", "quick restart", "last words", "unheard words", "late copies")


class _Reader:
    """A client that asks one question at a time, on request, and otherwise keeps quiet."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self._client: SimClient | None = None  # Made when first needed.
        self._asked = 0

    def read(self) -> None:
        """Ask what the subject of the run can be asked, unless the last answer is still to come."""
        probe = self._cluster.shape.subject.probe()
        if probe is None:
            return
        if self._client is None:
            self._client = self._cluster.add_client()
        if not self._client.pending:
            self._asked += 1
            token = (READER << 24) + self._asked
            self._client.submit(Operation(token, self._client.name, probe.code, probe.body, is_read=True))


class _HeldUp:
    """What a primary orders from now on reaches nobody in time, nor what it answers to those who ask for it."""

    def __init__(self, primary: SimReplica, head: int) -> None:
        self.primary = primary
        self.view = primary.view
        self.copies: dict[int, list[Payload]] = {}  # By whom they are for.
        self._head = head  # Of the longest log: what is above it nobody else has.

    def __call__(self, source: int, destination: int, payload: Payload) -> int:
        """By how much a message is to be late (`Network.taps`)."""
        message = payload.message
        if source != self.primary.number or not isinstance(message, PrepareMessage | PrepareCopy):
            return 0
        if message.prepare.op <= self._head:
            return 0
        if isinstance(message, PrepareCopy):
            self.copies.setdefault(destination, []).append(payload)
        return LATE


class Ambushes:
    """Lies in wait for whoever leads when its time comes."""

    def __init__(self, cluster: SimCluster, note: Callable[[str], None], is_over: Callable[[], bool]) -> None:
        """`note(kind)` takes what happened; nothing happens any more once `is_over()`."""
        self._cluster = cluster
        self._choices: Choices = cluster.choices
        self._note = note
        self._reader = _Reader(cluster)
        self._is_over = is_over

    def spring(self, index: int) -> None:
        """Carry out ambush number `index` of the run, as soon as there is a primary."""
        primary = self._primary()
        if self._is_over():
            return
        if primary is None:
            self._later(PATIENCE, self.spring, index)
            return
        key: Key = ("ambush", index)
        scripts = (
            *(self._lonely, self._deaf, self._quick, self._last_words, self._unheard_words, self._late_copies),
            self._lonely,
        )
        kind = self._choices.number((*key, "kind"), 0, len(scripts) - 1, 0)
        self._note(AMBUSHES[kind % len(AMBUSHES)])
        scripts[kind](key, primary)

    # --- Scripts ----------------------------------------------------------------------------------

    def _lonely(self, key: Key, primary: SimReplica) -> None:
        """Cut off from the others but not from clients, it orders what nobody else will hold (T-3, T-19)."""
        if self._choices.flag((*key, "asked"), ASKED):
            self._reader.read()  # So that it keeps a connection to this one, which may not notice for long.
            self._later(self._time((*key, "before"), 5 * MS, 20 * MS), self._isolate, key, primary, True)
        else:
            self._isolate(key, primary, False)

    def _isolate(self, key: Key, primary: SimReplica, asked: bool) -> None:
        if self._is_over():
            return
        if asked:
            self._when_replaced(primary, 0, self._ask_when_it_commits, primary)
        cut = self._cut([primary.number], self._others(primary))
        extra = self._time((*key, "long"), 1 * MS, 20 * MS)
        self._when_replaced(primary, extra, self._end_loneliness, key, primary, cut)

    def _ask_when_it_commits(self, old: SimReplica) -> None:
        """What another has committed, and told somebody, the old one does not know (10.1)."""
        new = self._primary(but=old)
        if new is not None:
            for pause in ASKS:
                self._when_it_commits(new, self._later, pause, self._reader.read)

    def _end_loneliness(self, key: Key, old: SimReplica, cut: set[tuple[int, int]]) -> None:
        then = self._choices.number((*key, "then"), 0, 4, 0)
        new = self._primary(but=old)
        if then in (1, 4) and new is not None:
            # The old tail meets the next view change, before the others hear of what was committed meanwhile.
            self._when_it_commits(new, self._swap, key, new, cut)
            return
        self._mend(cut)
        if then == 2:
            self._kill(key, old)
        elif then == 3:
            # The old one takes the new log and dies before anything covers what it had to give up.
            delay = self._time((*key, "settle"), 1 * MS, 60 * MS)
            self._later(delay, self._kill_and_start, key, old)

    def _swap(self, key: Key, new: SimReplica, cut: set[tuple[int, int]]) -> None:
        self._mend(cut)
        self._kill(key, new)

    def _deaf(self, key: Key, primary: SimReplica) -> None:
        """It stops for a while and hears its clients before its peers when it goes on (10.1)."""
        self._reader.read()  # So that it takes this one for the primary and keeps a connection to it.
        self._later(self._time((*key, "before"), 5 * MS, 20 * MS), self._deafen, key, primary)

    def _deafen(self, key: Key, primary: SimReplica) -> None:
        if self._is_over():
            return
        cut = self._cut(self._others(primary), [primary.number], one_way=True)
        primary.pause()
        # Late enough for somebody to hear of the new view, who then asks in the old one.
        extra = self._time((*key, "long"), 1 * MS, 150 * MS)
        self._when_replaced(primary, extra, self._wake, key, primary, cut)

    def _wake(self, key: Key, primary: SimReplica, cut: set[tuple[int, int]]) -> None:
        self._reader.read()
        self._later(self._time((*key, "arrival"), 5 * MS, 20 * MS), primary.resume)
        self._later(self._time((*key, "deaf"), 1 * MS, 100 * MS), self._mend, cut)

    def _quick(self, key: Key, primary: SimReplica) -> None:
        """Somebody dies, maybe within its disk's work, and is back before anybody missed it (T-6, T-12)."""
        chosen = self._choices.number((*key, "who"), 0, 2 * len(self._cluster.replicas) - 1, 0)
        replica = primary if chosen >= len(self._cluster.replicas) else self._cluster.replicas[chosen]
        steps = self._choices.number((*key, "steps"), 0, 16, 0)
        if steps == 0:
            self._kill(key, replica)
        else:
            power = not self._choices.flag((*key, "process only"), 0.5)
            replica.plan_crash(power=power, after_outputs=None, after_steps=steps - 1)
        for look in range(1, QUICK_LOOKS + 1):
            self._later(look * MS, self._start, replica)

    def _last_words(self, key: Key, primary: SimReplica) -> None:
        """Its last prepares reach one backup only (appendix A.2)."""
        others = self._others(primary)
        chosen = self._choices.number((*key, "hears"), 0, max(0, len(others) - 1), 0)
        cut = self._cut([primary.number], [other for at, other in enumerate(others) if at != chosen], one_way=True)
        self._die_soon(key, primary, cut)

    def _unheard_words(self, key: Key, primary: SimReplica) -> None:
        """Its last prepares reach nobody."""
        self._die_soon(key, primary, self._cut([primary.number], self._others(primary), one_way=True))

    def _die_soon(self, key: Key, primary: SimReplica, cut: set[tuple[int, int]]) -> None:
        wait = self._time((*key, "long"), 5 * MS, 60 * MS)
        self._later(wait, self._kill, key, primary)
        # What it sent just before is lost with it: the cable goes later.
        self._later(wait + 50 * MS, self._mend, cut)

    def _late_copies(self, key: Key, primary: SimReplica) -> None:
        """What its backups ask it for comes when another leads already, and nobody else ever had it (T-37)."""
        held_up = _HeldUp(primary, max(it.core.state.log.head for it in self._cluster.replicas if it.core is not None))
        self._cluster.network.taps.append(held_up)
        self._wait_for_copies(key, held_up, COPY_LOOKS)

    def _wait_for_copies(self, key: Key, held_up: _HeldUp, left: int) -> None:
        primary, network = held_up.primary, self._cluster.network
        others = self._others(primary)
        is_due = left == 0 or primary.view != held_up.view or len(held_up.copies) == len(others)
        if not is_due and not self._is_over():
            self._cluster.scheduler.idle += 1
            self._later(1 * MS, self._wait_for_copies, key, held_up, left - 1)
            return
        if held_up in network.taps:
            network.taps.remove(held_up)
        if self._is_over() or not held_up.copies:
            return
        cut = self._cut([primary.number], others)
        for number in sorted(held_up.copies):
            self._when_it_follows(number, held_up.view, self._hand_over, held_up, number, cut)
        self._when_replaced(primary, self._time((*key, "long"), 5 * MS, 50 * MS), self._mend, cut)

    def _hand_over(self, held_up: _HeldUp, number: int, cut: set[tuple[int, int]]) -> None:
        """Its peer hears from the old one again, what it was answered long ago first."""
        self._mend({(held_up.primary.number, number)} & cut)
        for payload in held_up.copies[number]:
            self._cluster.network.repeat(held_up.primary.number, number, payload)

    # --- Pieces -----------------------------------------------------------------------------------

    def _primary(self, but: SimReplica | None = None) -> SimReplica | None:
        """The primary of the newest view."""
        leading = [replica for replica in self._cluster.replicas if replica.is_primary and replica is not but]
        return max(leading, key=lambda replica: replica.view, default=None)

    def _others(self, replica: SimReplica) -> list[int]:
        return [other.number for other in self._cluster.replicas if other is not replica]

    def _when_replaced(self, old: SimReplica, extra: int, act: Callable[..., None], *arguments: object) -> None:
        """Act `extra` after somebody else began to lead."""
        view = old.view

        def look(left: int) -> None:
            new = self._primary(but=old)
            if left == 0 or self._is_over() or (new is not None and new.view > view):
                self._later(extra, act, *arguments)
            else:
                self._cluster.scheduler.idle += 1
                self._later(PATIENCE, look, left - 1)

        look(REPLACED_LOOKS)

    def _when_it_follows(self, number: int, view: int, act: Callable[..., None], *arguments: object) -> None:
        """Act in the moment in which a replica follows the primary of a later view."""
        replica = self._cluster.replicas[number]

        def look(left: int) -> None:
            if left == 0 or self._is_over():
                return
            if replica.view > view and replica.core is not None and replica.core.state.is_backup:
                act(*arguments)
            else:
                self._cluster.scheduler.idle += 1
                self._later(1 * MS, look, left - 1)

        look(COMMIT_LOOKS)

    def _when_it_commits(self, primary: SimReplica, act: Callable[..., None], *arguments: object) -> None:
        """Act in the moment in which `primary` commits something of its own view."""

        def look(left: int) -> None:
            state = primary.core.state if primary.core is not None else None
            if left == 0 or state is None or self._is_over() or state.commit_max > state.start_view_head:
                act(*arguments)
            else:
                self._cluster.scheduler.idle += 1
                self._later(1 * MS, look, left - 1)

        look(COMMIT_LOOKS)

    def _cut(self, sources: list[int], destinations: list[int], *, one_way: bool = False) -> set[tuple[int, int]]:
        network = self._cluster.network
        before = set(network.blocked)
        network.block(sources, destinations, one_way=one_way)
        return network.blocked - before

    def _mend(self, cut: set[tuple[int, int]]) -> None:
        if not self._is_over():  # Else all is mended, and what is cut now is none of ours.
            self._cluster.network.blocked.difference_update(cut)

    def _kill(self, key: Key, replica: SimReplica) -> None:
        if not self._is_over():
            replica.crash(power=not self._choices.flag((*key, "process only"), 0.5))

    def _kill_and_start(self, key: Key, replica: SimReplica) -> None:
        self._kill(key, replica)
        self._later(1 * MS, self._start, replica)

    def _start(self, replica: SimReplica) -> None:
        if not replica.is_up and not replica.is_held:
            replica.start()

    def _time(self, key: Key, low: int, mean: int) -> int:
        return self._choices.latency(key, low, mean)

    def _later(self, delay: int, act: Callable[..., None], *arguments: object) -> None:
        self._cluster.scheduler.after(delay, act, *arguments)
