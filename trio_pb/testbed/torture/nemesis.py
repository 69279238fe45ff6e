"""Carries out what was dealt: does harm, undoes it, and demands that the cluster recovers from each round.

It stays inside the fault model (PROTOCOL 1, 7.4): copies are damaged on one replica at a time, and on the
next one only once the disk of the last is whole again, which is looked at on that disk (`damage`).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from random import Random
from typing import Protocol

import attrs
import trio

from trio_pb.core.messages import Status
from trio_pb.driver.read_only_disk import ReadOnlyDisk
from trio_pb.driver.reception import UNFIT_PREFIX
from trio_pb.storage.disk import run
from trio_pb.storage.inspect import Survey, survey
from trio_pb.testbed.cluster import LocalCluster
from trio_pb.testbed.torture.custody import Custody, Stopped
from trio_pb.testbed.torture.damage import rot, ruin, unrepaired
from trio_pb.testbed.torture.deck import NETWORK, Card, Kind, Pace, deal, uses_needed
from trio_pb.testbed.torture.proxy import Network
from trio_pb.testbed.torture.recording import Customers
from trio_pb.testbed.torture.storm import brew, names_of

__all__ = ["Action", "Calm", "Nemesis"]

SECOND_NS = 1_000_000_000
PROGRESS_SECONDS_MAX = 30.0  # N_LIVE, 3000 ticks (INV-33).
WHOLE_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 10.0  # For a process whose writes fail to notice.
POLL_SECONDS = 0.05
IDLE_POLLS_MAX = 200  # A fault of the network is there so much longer until something came its way.
TRIES_MAX = 5
JUMPS_SECONDS = (-3600.0, -60.0, -1.0, 1.0, 60.0, 3600.0, 365 * 86400.0)
RATES = (0.5, 0.7, 1.5, 2.0)
SLOW_SECONDS = (0.02, 0.1, 0.4, 1.5)


class Watcher(Protocol):
    """Somebody who looks on."""

    def on_round(self, text: str) -> None:
        """A round is over, and the cluster is whole again."""
        ...

    def on_trouble(self, text: str) -> None:
        """Something happened that should not have."""
        ...


@attrs.define(kw_only=True)
class Action:
    """Something that was done. Times in seconds since the load began."""

    kind: Kind
    begin: float
    end: float
    target: str
    what: str
    round: int
    is_done: bool = False  # It did some harm.


@attrs.frozen(kw_only=True)
class Calm:
    """How the cluster recovered from a round; times in seconds after it was healed. None: not in time."""

    round: int
    begin: float  # Since the load began.
    progress: float | None  # An order that began after it was acknowledged.
    whole: float | None  # All replicas took part, and nothing was left to be repaired.
    told: str = ""  # What was wrong.


class Nemesis:
    """The adversary of one cluster."""

    def __init__(
        self,
        cluster: LocalCluster,
        network: Network,
        customers: Customers,
        seed: int,
        pace: Pace,
        watcher: Watcher,
    ) -> None:
        self.actions: list[Action] = []
        self.calms: list[Calm] = []
        self._cluster = cluster
        self._network = network
        self._customers = customers
        self._seed = seed
        self._pace = pace
        self._watcher = watcher
        self._began = time.monotonic_ns()
        self._custody = Custody(cluster, lambda: self.now, watcher.on_trouble)
        self._round = 0
        self._acts: dict[Kind, Callable[[Card, Random], Awaitable[tuple[str, str]]]] = {
            **dict.fromkeys(NETWORK, self._storm),
            Kind.KILL: self._kill,
            Kind.POWER_CUT: self._cut_power,
            Kind.PAUSE: self._pause,
            Kind.CLOCK_JUMP: self._trouble,
            Kind.CLOCK_DRIFT: self._trouble,
            Kind.SLOW_DISK: self._trouble,
            Kind.FULL_DISK: self._fill,
            Kind.READ_ERROR: self._refuse_reads,
            Kind.WRITE_ERROR: self._fail,
            Kind.FLUSH_ERROR: self._fail,
            Kind.ROT: self._corrupt,
            Kind.RUIN: self._corrupt,
        }
        assert self._acts.keys() == set(Kind)

    @property
    def stopped(self) -> list[Stopped]:
        """Replicas that ended, and nobody made them."""
        return self._custody.stopped

    @property
    def now(self) -> float:
        """Seconds since the load began."""
        return (time.monotonic_ns() - self._began) / SECOND_NS

    async def run(self, began_ns: int, seconds: float) -> bool:
        """Deal whole decks, enough of them, until the time is over; return whether the cluster always recovered."""
        self._began = began_ns
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._custody.watch)
            recovers = await self._deal(seconds)
            nursery.cancel_scope.cancel()
        return recovers

    async def start_all(self) -> None:
        """Start the cluster, on sound machines."""
        for replica in self._cluster.replicas:
            await self._custody.start(replica)

    async def _deal(self, seconds: float) -> bool:
        deck = 0
        while self.now < seconds or deck < uses_needed(seconds):  # A busy machine takes its time.
            for hand in deal(self._seed, deck, self._pace):
                await self._play(hand)
                if not await self._demand_recovery():
                    return False
                await trio.sleep(self._pace.calm)
            deck += 1
        return True

    # --- A round ----------------------------------------------------------------------------------

    async def _play(self, hand: Iterable[Card]) -> None:
        self._round += 1
        async with trio.open_nursery() as nursery:
            for card in hand:
                nursery.start_soon(self._play_card, card)

    async def _play_card(self, card: Card) -> None:
        await trio.sleep(card.begin)
        action = Action(kind=card.kind, begin=self.now, end=self.now, target="", what="", round=self._round)
        self.actions.append(action)
        action.target, action.what = await self._acts[card.kind](card, Random(card.dice))
        action.end = self.now
        action.is_done = bool(action.what)

    async def _demand_recovery(self) -> bool:
        """Everything is healed: wait until orders are taken, and all replicas are whole."""
        healed_ns, healed = time.monotonic_ns(), self.now
        progress = whole = None
        told = ""
        with trio.move_on_after(PROGRESS_SECONDS_MAX):
            await self._customers.wait_acknowledged(healed_ns)
            progress = self.now - healed
        with trio.move_on_after(WHOLE_SECONDS_MAX):
            while True:
                told = await self._what_is_amiss()
                if not told:
                    break
                await trio.sleep(POLL_SECONDS)
            whole = self.now - healed
        calm = Calm(round=self._round, begin=healed, progress=progress, whole=whole, told=told)
        self.calms.append(calm)
        if progress is None or whole is None:
            statuses = await self._cluster.statuses()
            self._watcher.on_trouble(f"round {self._round}: {told}\n{self._cluster.describe(statuses)}")
            return False
        names = ", ".join(action.kind for action in self.actions if action.round == self._round)
        self._watcher.on_round(
            f"round {self._round}: {names}; orders again after {progress:.1f} s, all whole after {whole:.1f} s"
        )
        return True

    async def _what_is_amiss(self) -> str:
        """Why the cluster is not whole; "" if it is."""
        statuses = await self._cluster.statuses()
        for replica in self._cluster.replicas:
            status = statuses.get(replica)
            if status is None:
                return f"replica {replica} does not answer"
            if status.status is not Status.NORMAL:
                return f"replica {replica} is {status.status.name.lower()}"
            unfit = [name.removeprefix(UNFIT_PREFIX) for name, _ in status.counters if name.startswith(UNFIT_PREFIX)]
            if unfit:
                return f"replica {replica} is unfit: {', '.join(unfit)}"
            if status.applied < min(other.commit for other in statuses.values()):
                return f"replica {replica} has applied {status.applied} only"
        for replica in self._cluster.replicas:
            found = await self._survey(replica)
            for finding in unrepaired(found):
                if not (finding.ops and min(finding.ops) > statuses[replica].head):  # Else written while we read.
                    return f"replica {replica}: {finding.file}, {finding.what}: {finding.verdict}"
        return ""

    async def _survey(self, replica: int) -> Survey:
        disk = ReadOnlyDisk(self._cluster.data(replica))
        return await trio.to_thread.run_sync(run, disk, survey())

    async def _storm(self, card: Card, random: Random) -> tuple[str, str]:
        victim = await self._choose(card)
        storm = brew(self._network, self._cluster.replicas, card.kind, victim, random)
        before = sum(link.harmed[card.kind] for link in storm.links)
        for link in storm.links:
            storm.begin(link)
        await trio.sleep(card.seconds)
        harmed = 0
        for _ in range(IDLE_POLLS_MAX):
            harmed = sum(link.harmed[card.kind] for link in storm.links) - before
            if harmed:
                break
            await trio.sleep(POLL_SECONDS)
        for link in storm.links:
            storm.end(link)
        return storm.where, f"{storm.what}; {harmed} {storm.unit}{'s' * (harmed != 1)}" if harmed else ""

    # --- Processes --------------------------------------------------------------------------------

    async def _choose(self, card: Card) -> int:
        return await self._custody.choose(at_primary=card.at_primary, dice=card.dice)

    async def _choose_running(self, card: Card) -> int:
        return await self._custody.choose_running(at_primary=card.at_primary, dice=card.dice)

    async def _hold(self, card: Card) -> int:
        return await self._custody.hold(at_primary=card.at_primary, dice=card.dice)

    async def _kill(self, card: Card, _: Random) -> tuple[str, str]:
        victim = await self._hold(card)
        await self._cluster.kill(victim)
        await trio.sleep(card.seconds)
        await self._custody.start(victim)
        self._custody.release(victim)
        return f"replica {victim}", "SIGKILL; what was not flushed is gone"

    async def _cut_power(self, card: Card, _: Random) -> tuple[str, str]:
        everybody = self._custody.hold_all()
        for replica in everybody:
            self._cluster.process(replica).send(signal.SIGKILL)
        for replica in everybody:
            await self._cluster.kill(replica)  # Until it is gone.
        await trio.sleep(card.seconds / 2)
        for replica in everybody:
            await self._custody.start(replica)
        self._custody.release(*everybody)
        return "all replicas", "SIGKILL at the same moment; what was not flushed is gone"

    async def _pause(self, card: Card, _: Random) -> tuple[str, str]:
        victim = await self._hold(card)
        self._cluster.process(victim).send(signal.SIGSTOP)
        try:
            await trio.sleep(card.seconds)
        finally:
            self._cluster.process(victim).send(signal.SIGCONT)
        self._custody.release(victim)
        return f"replica {victim}", "SIGSTOP, then SIGCONT"

    # --- Clocks and disks -------------------------------------------------------------------------

    async def _trouble(self, card: Card, random: Random) -> tuple[str, str]:
        victim = await self._choose_running(card)
        if card.kind is Kind.CLOCK_JUMP:
            ahead = random.choice(JUMPS_SECONDS)
            await self._custody.tell(victim, lambda it: attrs.evolve(it, clock_ahead_seconds=ahead))
            await trio.sleep(card.seconds)
            await self._custody.tell(victim, lambda it: attrs.evolve(it, clock_ahead_seconds=0.0))
            return f"replica {victim}", f"its date jumps by {ahead:+.0f} s, and back"
        if card.kind is Kind.CLOCK_DRIFT:
            rate = random.choice(RATES)
            await self._custody.tell(victim, lambda it: attrs.evolve(it, clock_rate=rate))
            await trio.sleep(card.seconds)
            await self._custody.tell(victim, lambda it: attrs.evolve(it, clock_rate=1.0))
            return f"replica {victim}", f"its time runs {rate:g} times as fast"
        seconds = random.choice(SLOW_SECONDS)
        await self._custody.tell(victim, lambda it: attrs.evolve(it, step_seconds=seconds))
        await trio.sleep(card.seconds)
        await self._custody.tell(victim, lambda it: attrs.evolve(it, step_seconds=0.0))
        return f"replica {victim}", f"each write and flush takes {seconds:g} s longer"

    async def _fill(self, card: Card, random: Random) -> tuple[str, str]:
        victims = list(self._cluster.replicas) if random.random() < 0.4 else [await self._choose_running(card)]
        for victim in victims:
            await self._custody.tell(victim, lambda it: attrs.evolve(it, is_full=True))
        await trio.sleep(card.seconds)
        for victim in victims:
            await self._custody.tell(victim, lambda it: attrs.evolve(it, is_full=False))
        return names_of(victims), "no space for a new or longer file"

    async def _refuse_reads(self, card: Card, random: Random) -> tuple[str, str]:
        """It comes back to a disk of which it cannot read everything, which mends."""
        victim = await self._hold(card)
        share = random.choice((0.01, 0.05, 0.2))
        await self._cluster.kill(victim)
        await self._custody.tell(victim, lambda it: attrs.evolve(it, unreadable_share=share))
        await self._custody.start(victim)
        self._custody.release(victim)
        await trio.sleep(card.seconds)
        await self._custody.tell(victim, lambda it: attrs.evolve(it, unreadable_share=0.0))
        return f"replica {victim}", f"SIGKILL; started on a disk with {share:.0%} of log and checkpoints unreadable"

    async def _fail(self, card: Card, random: Random) -> tuple[str, str]:
        """A failed write or flush ends a replica; it is started again on the disk as it is then."""
        victim = await self._hold(card)
        doing = "write" if card.kind is Kind.WRITE_ERROR else "flush"
        began = self.now
        code: int | None = None
        await self._custody.tell(victim, lambda it: attrs.evolve(it, fails=doing))
        with trio.move_on_after(STOP_SECONDS_MAX):
            code = await self._cluster.process(victim).wait()
        await self._custody.tell(victim, lambda it: attrs.evolve(it, fails=""))
        if code is None:
            await self._cluster.kill(victim)
            self._custody.note_stop(victim, None, f"it went on though each {doing} failed")
        elif code != 1:
            self._custody.note_stop(victim, code, self._cluster.process(victim).tail())
        stopped_after = self.now - began
        await trio.sleep(card.seconds / 2)
        await self._custody.start(victim)
        self._custody.release(victim)
        return f"replica {victim}", f"each {doing} fails with EIO; it stopped after {stopped_after:.1f} s, as it must"

    async def _corrupt(self, card: Card, random: Random) -> tuple[str, str]:
        """Kill it, damage what it has on disk, start it again."""
        victim = await self._hold(card)
        what = ""
        for _ in range(TRIES_MAX):
            await self._cluster.kill(victim)
            found = await self._survey(victim)
            damage = partial(ruin if card.kind is Kind.RUIN else rot, self._cluster.data(victim), found, random)
            if what := await trio.to_thread.run_sync(damage):
                break
            await self._custody.start(victim)
            await trio.sleep(1.0)  # The next superblock, or a first checkpoint.
        await trio.sleep(card.seconds / 2)
        if not self._cluster.process(victim).running:
            await self._custody.start(victim)
        self._custody.release(victim)
        return f"replica {victim}", what
