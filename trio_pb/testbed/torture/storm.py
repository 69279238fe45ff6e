"""Faults of the network: on which links, how they begin and how they end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

import attrs

from trio_pb.testbed.torture.deck import Kind
from trio_pb.testbed.torture.proxy import CLIENTS, Link, Network, Weather

__all__ = ["Storm", "brew", "names_of"]

DELAYS_SECONDS = (0.02, 0.1, 0.3)
DROP_SHARES = (0.02, 0.1, 0.3, 0.6)
CORRUPT_SHARES = (0.02, 0.05, 0.1)
RATES = (2_000, 10_000, 50_000)  # Bytes a second.


@attrs.frozen
class Storm:
    """One fault of the network. Several at once may have links in common: each changes and undoes its own part."""

    kind: Kind
    links: list[Link]
    where: str
    begin: Callable[[Link], None]
    end: Callable[[Link], None]
    what: str

    @property
    def unit(self) -> str:
        """What it harms, as the links count it."""
        return _UNITS[self.kind]


_UNITS = {
    Kind.CUT: "connection",
    Kind.HALF_OPEN: "connection",
    Kind.DELAY: "piece",
    Kind.THROTTLE: "piece",
    Kind.DROP: "message",
    Kind.CORRUPT: "message",
    Kind.ONE_WAY: "message",
}


def brew(network: Network, replicas: Iterable[int], kind: Kind, victim: int, random: Random) -> Storm:
    """Draw where it strikes around `victim`, and how hard."""
    links, where = _choose_links(network, replicas, kind, victim, random)
    return Storm(kind, links, where, *_faults(kind, random))


def names_of(replicas: Iterable[int]) -> str:
    """Name some replicas in a sentence."""
    numbers = list(replicas)
    if len(numbers) == 1:
        return f"replica {numbers[0]}"
    return "replicas " + ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"


def _choose_links(
    network: Network, replicas: Iterable[int], kind: Kind, victim: int, random: Random
) -> tuple[list[Link], str]:
    others = [replica for replica in replicas if replica != victim]
    other, them = random.choice(others), names_of(others)
    forth, back = network.link(victim, other), network.link(other, victim)
    outward = [network.link(victim, peer) for peer in others]
    inward = [network.link(peer, victim) for peer in others]
    ways = [
        (outward, f"from replica {victim} to {them}"),
        (inward, f"from {them} to replica {victim}"),
        ([forth], f"from replica {victim} to replica {other}"),
    ]
    if kind is not Kind.ONE_WAY:
        clients = [network.link(CLIENTS, victim)]
        ways += [
            (clients, f"between clients and replica {victim}"),
            ([forth, back], f"between replica {victim} and replica {other}"),
            ([*outward, *inward], f"between replica {victim} and {them}"),
            ([*outward, *inward, *clients], f"to and from replica {victim}, for clients too"),
            (network.links, "everywhere"),
        ]
    return random.choice(ways)


def _faults(kind: Kind, random: Random) -> tuple[Callable[[Link], None], Callable[[Link], None], str]:
    """How a fault begins and ends on a link, and what it is."""
    if kind is Kind.CUT:
        return Link.cut, Link.mend, "connections are reset, new ones too"
    if kind is Kind.HALF_OPEN:
        return Link.leave_half_open, Link.revive, "connections die, and nobody is told; so do new ones"
    if kind is Kind.ONE_WAY:
        return (
            _changing(lambda it: attrs.evolve(it, is_closed=True)),
            _changing(lambda it: attrs.evolve(it, is_closed=False)),
            "nothing passes; the other direction is open",
        )
    if kind is Kind.DELAY:
        seconds = random.choice(DELAYS_SECONDS)
        return (
            _changing(lambda it: attrs.evolve(it, delay_seconds=seconds, jitter_seconds=seconds)),
            _changing(lambda it: attrs.evolve(it, delay_seconds=0.0, jitter_seconds=0.0)),
            f"{1000 * seconds:.0f} to {2000 * seconds:.0f} ms late",
        )
    if kind is Kind.DROP:
        drop_share = random.choice(DROP_SHARES)
        return (
            _changing(lambda it: attrs.evolve(it, drop_share=drop_share)),
            _changing(lambda it: attrs.evolve(it, drop_share=0.0)),
            f"{drop_share:.0%} of the messages are lost",
        )
    if kind is Kind.CORRUPT:
        corrupt_share = random.choice(CORRUPT_SHARES)
        return (
            _changing(lambda it: attrs.evolve(it, corrupt_share=corrupt_share)),
            _changing(lambda it: attrs.evolve(it, corrupt_share=0.0)),
            f"a bit is turned in {corrupt_share:.0%} of the messages",
        )
    assert kind is Kind.THROTTLE, kind
    rate = random.choice(RATES)
    return (
        _changing(lambda it: attrs.evolve(it, bytes_per_second=rate)),
        _changing(lambda it: attrs.evolve(it, bytes_per_second=None)),
        f"{rate:,} bytes a second pass",
    )


def _changing(change: Callable[[Weather], Weather]) -> Callable[[Link], None]:
    """Change the weather of a link, in both directions."""

    def both(link: Link) -> None:
        link.forth, link.back = change(link.forth), change(link.back)

    return both
