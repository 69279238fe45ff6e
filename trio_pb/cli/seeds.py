"""Which seeds to run, and in how many processes: checks that several commands share."""

from __future__ import annotations

from sim.choices import SEED_DIGITS_MAX
from trio_pb.errors import ConfigError

__all__ = ["check_seeds"]


def check_seeds(seeds: int, first_seed: int, jobs: int | None = None) -> None:
    """Refuse numbers that make no sweep.

    Raises:
        ConfigError: it names the option.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: must be at least 1")
    if first_seed < 0:
        raise ConfigError(f"--first-seed {first_seed}: must not be negative")
    if first_seed + seeds >= 10**SEED_DIGITS_MAX:
        raise ConfigError(f"--first-seed, --seeds: a seed must not have more than {SEED_DIGITS_MAX} digits")
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs {jobs}: must be at least 1")
