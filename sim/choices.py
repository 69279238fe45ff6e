"""Every random decision of a run, drawn by key and recorded sparsely.

A draw is named by its *key*, a tuple of strings and whole numbers that says what is decided: a label,
the entities, the content or the n-th use. The value is a function of (seed, key) alone, so adding or
removing one draw changes no other: a recorded run still replays when the code around it changed, and
a shrinker may drop one decision without renumbering the world.

Each draw has a benign default ("this message is not lost"). Only values that differ from it are
recorded; a run is fixed by its seed, or by its seed and the recorded choices. Latencies are no
decisions: they come from the hash of (seed, content key) in both cases and are never recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TypeAlias

__all__ = ["ROLL_BITS", "SEED_DIGITS_MAX", "Choices", "Key"]

Key: TypeAlias = tuple[str | int, ...]

SEED_DIGITS_MAX = 38  # Decimal: what 16 bytes with a sign surely hold.
ROLL_BITS = 20  # Probabilities are compared in steps of one in a million.
_ROLL_MASK = (1 << ROLL_BITS) - 1


class Choices:
    """The decisions of one run.

    With `recorded` the run is a replay: decisions come from that mapping, and what it does not name
    takes its default.
    """

    __slots__ = ("_base", "_replay", "defaults", "made", "seed", "sizes")

    def __init__(self, seed: int, recorded: Mapping[Key, int] | None = None) -> None:
        self.seed = seed
        self.made: dict[Key, int] = {}  # The values that differ from their default, by key.
        self.defaults: dict[Key, int] = {}  # Of the numbers among them: what they might be lowered to.
        self.sizes: dict[Key, int] = {}  # Everything that `at_most` was asked for, in full.
        self._replay = None if recorded is None else dict(recorded)
        self._base = blake2b(seed.to_bytes(16, "little", signed=True), digest_size=8)

    def bits(self, key: Key) -> int:
        """Return 64 bits that depend on the seed and `key` only; never recorded."""
        # repr of a tuple of strings and ints is the same in every process; hash() of one is not.
        hasher = self._base.copy()
        hasher.update(repr(key).encode())
        return int.from_bytes(hasher.digest(), "little")

    def flag(self, key: Key, probability: float) -> bool:
        """Decide whether something harmful happens; the default is that it does not."""
        if self._replay is None and probability <= 0.0:
            return False
        return self.flag_of(key, self.bits(key) if self._replay is None else 0, probability)

    def flag_of(self, key: Key, roll: int, probability: float) -> bool:
        """`flag` for a caller that already holds random bits (`roll`): one hash can feed several draws."""
        if self._replay is not None:
            happens = self._replay.get(key, 0) != 0
        else:
            happens = (roll & _ROLL_MASK) < probability * (_ROLL_MASK + 1)
        if happens:
            self.made[key] = 1
        return happens

    def number(self, key: Key, low: int, high: int, default: int) -> int:
        """Decide a whole number between `low` and `high`, both included."""
        assert low <= high, f"{key}: empty range"
        if self._replay is not None:
            # Clamped: a record may come from a version with another range.
            value = default if key not in self._replay else min(max(self._replay[key], low), high)
        else:
            value = low + self.bits(key) % (high - low + 1)
        if value != default:
            self.made[key] = value
            self.defaults[key] = default
        return value

    def at_most(self, key: Key, whole: int) -> int:
        """Return `whole`, or less where a recording says so: a size that no seed draws and a shrinker lowers."""
        self.sizes[key] = whole
        if self._replay is None or key not in self._replay:
            return whole
        value = min(max(self._replay[key], 0), whole)
        if value != whole:
            self.made[key] = value
        return value

    def latency(self, key: Key, low: int, mean: int) -> int:
        """Return a duration of at least `low` with the given mean above it, in the caller's unit."""
        return latency_of(self.bits(key), low, mean)


def latency_of(bits: int, low: int, mean: int) -> int:
    """Return `low` plus a sample of a long-tailed distribution, made from 64 random bits."""
    # A geometric tail from the trailing zeros, a uniform part from the top bits: about exponential,
    # whole numbers only (the logarithm of the floating library may differ between platforms).
    tail = (bits & -bits).bit_length() if bits else 64
    return low + (mean * (tail if tail < 8 else 8) * ((bits >> 40) & 0xFFFF) >> 16)
