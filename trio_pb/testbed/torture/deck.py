"""What is done to a cluster and when, drawn from a seed: decks of all kinds of faults, dealt in rounds.

A deck has each kind once, so after whole decks each was used equally often. A hand is what happens in one
round, more or less at once; what would leave the fault model together is not dealt together.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from random import Random

import attrs

__all__ = ["BRISK", "NETWORK", "STEADY", "Card", "Kind", "Pace", "deal", "uses_needed"]


class Kind(StrEnum):
    """Everything that can be done to a cluster."""

    DELAY = "delay"
    DROP = "drop"
    CORRUPT = "corrupt"
    CUT = "cut"
    HALF_OPEN = "half-open"
    THROTTLE = "throttle"
    ONE_WAY = "one-way"
    KILL = "kill"
    POWER_CUT = "power cut"
    PAUSE = "pause"
    CLOCK_JUMP = "clock jump"
    CLOCK_DRIFT = "clock drift"
    READ_ERROR = "read error"
    WRITE_ERROR = "write error"
    FLUSH_ERROR = "flush error"
    SLOW_DISK = "slow disk"
    FULL_DISK = "full disk"
    ROT = "rot"
    RUIN = "ruin"


NETWORK = frozenset(
    {Kind.DELAY, Kind.DROP, Kind.CORRUPT, Kind.CUT, Kind.HALF_OPEN, Kind.THROTTLE, Kind.ONE_WAY},
)
# Of each of these sets a hand has one card at most. Copies of what was acknowledged are damaged on one replica at a
# time, and the majority of the clocks is right; a power cut needs all processes for itself.
_ONE_OF = (
    frozenset({Kind.READ_ERROR, Kind.ROT, Kind.RUIN}),
    frozenset({Kind.CLOCK_JUMP, Kind.CLOCK_DRIFT}),
    frozenset({Kind.WRITE_ERROR, Kind.FLUSH_ERROR}),
)
# These end or halt a process. Two at once leave one of three replicas: nothing can be done until they are back.
HALTING = frozenset(
    {
        Kind.KILL,
        Kind.POWER_CUT,
        Kind.PAUSE,
        Kind.READ_ERROR,
        Kind.WRITE_ERROR,
        Kind.FLUSH_ERROR,
        Kind.ROT,
        Kind.RUIN,
    }
)
HALTING_MAX = 2
SECONDS_PER_USE = 120


@attrs.frozen(kw_only=True)
class Pace:
    """How much happens at once, and for how long; in seconds."""

    hand_max: int
    begin_max: float  # The cards of a hand begin at most so long after the first.
    fault_min: float
    fault_max: float
    calm: float  # At least, between two rounds.


STEADY = Pace(hand_max=5, begin_max=2.0, fault_min=1.5, fault_max=5.0, calm=1.5)
BRISK = Pace(hand_max=5, begin_max=0.4, fault_min=0.5, fault_max=1.2, calm=0.2)


@attrs.frozen(kw_only=True)
class Card:
    """One fault: what, when, for how long, and whom it is aimed at."""

    kind: Kind
    begin: float  # Seconds after its round began.
    seconds: float
    at_primary: bool  # Else at a backup.
    dice: int  # Seed of all else that is left to chance.


def uses_needed(seconds: float) -> int:
    """How often each kind is to happen at least in a torture of that length: five times in ten minutes."""
    return max(1, int(seconds / SECONDS_PER_USE))


def deal(seed: int, deck: int, pace: Pace) -> list[tuple[Card, ...]]:
    """Return the rounds of a deck, each card dealt once."""
    random = Random(f"deck {deck} of {seed}")
    kinds = list(Kind)
    random.shuffle(kinds)
    rounds: list[tuple[Card, ...]] = []
    while kinds:
        size = random.randint(1, pace.hand_max)
        hand: list[Kind] = []
        for kind in kinds:
            if len(hand) < size and _fits(kind, hand):
                hand.append(kind)
        kinds = [kind for kind in kinds if kind not in hand]
        rounds.append(tuple(_card(kind, 0.0 if kind is hand[0] else None, random, pace) for kind in hand))
    return rounds


def _fits(kind: Kind, hand: Sequence[Kind]) -> bool:
    if any(kind in few and other in few for few in _ONE_OF for other in hand):
        return False
    halting = [other for other in hand if other in HALTING]
    if kind not in HALTING or not halting:
        return True
    return kind is not Kind.POWER_CUT and Kind.POWER_CUT not in halting and len(halting) < HALTING_MAX


def _card(kind: Kind, begin: float | None, random: Random, pace: Pace) -> Card:
    return Card(
        kind=kind,
        begin=random.uniform(0, pace.begin_max) if begin is None else begin,
        seconds=random.uniform(pace.fault_min, pace.fault_max),
        at_primary=random.random() < 0.4,
        dice=random.randrange(1 << 32),
    )
