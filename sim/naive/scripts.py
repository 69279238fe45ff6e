"""Twelve scripts, each of which shows one of the twelve mistakes; they run against any cluster.

A script only does things to the world and to clients. It expects nothing: judges do, and they are others for
the teaching protocol (`judges`) and for trio_pb (all oracles of the simulator). What is not answered in time
is simply not answered, which is often the right thing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol, TypeAlias, TypeVar

import attrs

from sim.naive import judges
from sim.naive.mistakes import MISTAKES
from sim.naive.replica import Replica

__all__ = ["SCRIPTS", "Script", "ScriptedCluster"]

CallT = TypeVar("CallT")


class ScriptedCluster(Protocol[CallT]):
    """What a script can do. Times are in ticks of 10 ms; `CallT` is a request whose answer can be waited for."""

    @property
    def names(self) -> tuple[str, ...]:
        """The primary, then its backups from the one whose turn is next."""
        ...

    def order(self, laptop: str, *, customer: int = 1, via: str | None = None) -> CallT:
        """Order a laptop; `via` names the only replica that this client can reach."""
        ...

    def read(self, customer: int = 1, *, via: str | None = None) -> CallT:
        """Read a customer's orders."""
        ...

    def await_answer(self, call: CallT, ticks: int = 300) -> None:
        """Wait for an answer, at most so long."""
        ...

    def lose_next_reply(self) -> None:
        """Lose the next answer of a replica on its way to its client."""
        ...

    def isolate(self, name: str) -> None:
        """Cut a replica off from all others; clients still reach it."""
        ...

    def cut(self, one: str, other: str) -> None:
        """Cut one link."""
        ...

    def heal(self) -> None:
        """Mend every link."""
        ...

    def crash(self, *names: str) -> None:
        """Kill replicas at once."""
        ...

    def restart(self, *names: str) -> None:
        """Start replicas that are down."""
        ...

    def run_for(self, ticks: int) -> None:
        """Let time pass."""
        ...

    def await_primary(self, *names: str) -> str:
        """Wait until one of these replicas leads, at most for a while; return its name."""
        ...

    def settle(self) -> None:
        """Mend everything, start everyone, wait until all is answered and executed; then judge the whole."""
        ...


def reply_before_replication(c: ScriptedCluster[CallT]) -> None:
    """An order is taken while the backups are out of reach; then its primary dies."""
    a, *backups = c.names
    c.isolate(a)
    c.await_answer(c.order("laptop-1", via=a), 20)
    c.crash(a)
    c.heal()
    c.await_primary(*backups)
    c.await_answer(c.order("laptop-2"))


def unreachable_counted(c: ScriptedCluster[CallT]) -> None:
    """Both backups are down while an order comes; then the primary goes and they return."""
    a, b, other = c.names
    c.crash(b, other)
    c.await_answer(c.order("laptop-1"), 40)
    c.crash(a)
    c.restart(b, other)
    c.await_answer(c.order("laptop-2"), 100)


def write_promotes(c: ScriptedCluster[CallT]) -> None:
    """A client that reaches only a backup sends it an order; the primary is well, and cut off from that backup."""
    a, b, _ = c.names
    c.cut(a, b)
    c.await_answer(c.order("laptop-1", via=a), 20)
    c.await_answer(c.order("laptop-2", customer=2, via=b), 20)


def silence_promotes(c: ScriptedCluster[CallT]) -> None:
    """The link between the primary and a backup is cut for a while; a third replica hears both."""
    a, b, _ = c.names
    c.cut(a, b)
    c.await_answer(c.order("laptop-1", via=a), 20)
    c.run_for(40)
    c.await_answer(c.order("laptop-2", customer=2, via=b), 20)


def append_blindly(c: ScriptedCluster[CallT]) -> None:
    """A backup crashes and is back at once, and another order comes."""
    b = c.names[1]
    c.await_answer(c.order("laptop-1"))
    c.crash(b)
    c.restart(b)
    c.run_for(1)
    c.await_answer(c.order("laptop-2"))
    c.run_for(12)


def one_behind(c: ScriptedCluster[CallT]) -> None:
    """The primary dies after its only order, and the customer asks the next one for it."""
    a, *backups = c.names
    c.await_answer(c.order("laptop-1"))
    c.crash(a)
    new = c.await_primary(*backups)
    c.run_for(1)
    c.await_answer(c.read(customer=1, via=new))


def deposed_diverges(c: ScriptedCluster[CallT]) -> None:
    """A primary that is cut off takes an order, another one is elected and takes another, and the cut is mended."""
    a, *backups = c.names
    c.isolate(a)
    c.await_answer(c.order("laptop-1", via=a), 2)
    new = c.await_primary(*backups)
    c.await_answer(c.order("laptop-2", customer=2, via=new))
    c.heal()
    c.run_for(15)


def no_request_identity(c: ScriptedCluster[CallT]) -> None:
    """The answer to an order is lost, and its client asks again."""
    c.lose_next_reply()
    c.await_answer(c.order("laptop-1"))


def retry_after_failover(c: ScriptedCluster[CallT]) -> None:
    """The answer to an order is lost and its primary dies; the client asks the next one."""
    a = c.names[0]
    c.lose_next_reply()
    order = c.order("laptop-1")
    c.run_for(2)
    c.crash(a)
    c.await_answer(order, 100)


def restart_forgets(c: ScriptedCluster[CallT]) -> None:
    """Two of three have an order when their power fails; one comes back, and with the third there is a majority."""
    a, b, other = c.names
    c.isolate(other)
    c.await_answer(c.order("laptop-1"))
    c.crash(a, b)
    c.heal()
    c.restart(b)
    c.await_answer(c.order("laptop-2"), 100)


def deposed_reads(c: ScriptedCluster[CallT]) -> None:
    """A primary that is cut off was replaced; a client that reaches only the old one reads there."""
    a, *backups = c.names
    c.isolate(a)
    new = c.await_primary(*backups)
    c.await_answer(c.order("laptop-1", via=new))
    c.await_answer(c.read(customer=1, via=a), 20)


def longest_log_wins(c: ScriptedCluster[CallT]) -> None:
    """A primary that is cut off takes two orders, the next one only one; then that one dies and the first returns."""
    a, *backups = c.names
    c.isolate(a)
    c.order("laptop-1", customer=2, via=a)
    c.order("laptop-2", customer=3, via=a)
    c.run_for(2)
    new = c.await_primary(*backups)
    c.await_answer(c.order("laptop-3", via=new))
    c.crash(new)
    c.heal()
    c.run_for(45)
    c.await_answer(c.order("laptop-4"), 100)


# A script is generic in its cluster, which an alias cannot be without naming one: hence the ellipsis.
Play: TypeAlias = Callable[..., None]


@attrs.frozen
class Script:
    """One of the twelve."""

    name: str
    title: str
    play: Play
    mistake: type[Replica]
    oracle: str  # The judge that must find it.

    @property
    def shows(self) -> str:
        """What happens, in a sentence."""
        return (self.play.__doc__ or "").strip()


def _scripts(*scripts: tuple[str, Play, str]) -> Mapping[str, Script]:
    made: dict[str, Script] = {}
    for title, play, oracle in scripts:
        name = play.__name__.replace("_", "-")
        made[name] = Script(name, title, play, MISTAKES[name], oracle)
    assert made.keys() == MISTAKES.keys()
    return MappingProxyType(made)


SCRIPTS = _scripts(
    ("reply before replication", reply_before_replication, judges.LOST),
    ("unreachable peers counted as acknowledged", unreachable_counted, judges.LOST),
    ("any backup that gets a write promotes itself", write_promotes, judges.TWO_PRIMARIES),
    ("repair replays from index 0 and appends blindly", append_blindly, judges.EXECUTED_TWICE),
    ("backups one operation behind", one_behind, judges.STALE_READ),
    ("deposed primary diverges", deposed_diverges, judges.REPLICAS_DIFFER),
    ("no request identity", no_request_identity, judges.EXECUTED_TWICE),
    ("restart forgets", restart_forgets, judges.LOST),
    ("silence makes a second primary", silence_promotes, judges.TWO_PRIMARIES),
    ("reads at a deposed primary", deposed_reads, judges.STALE_READ),
    ("retry after a failover executes again", retry_after_failover, judges.EXECUTED_TWICE),
    ("the longest log wins", longest_log_wins, judges.LOST),
)
