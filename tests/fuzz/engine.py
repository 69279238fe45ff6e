"""One harness under atheris: coverage of our code guides what libFuzzer tries next."""

from __future__ import annotations

import resource
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

from tests.fuzz.catalogue import load

if TYPE_CHECKING:
    from tests.fuzz.harness import Harness

__all__ = ["fuzz", "is_installed"]

INSTRUMENTED = ["trio_pb", "sim", "tomllib"]

SECONDS_PER_INPUT_MAX = 10
MEMORY_MAX_MIB = 1024  # Of the process; one input may add far less:
GROWTH_MAX_KIB = 64 << 10  # for at most 16 KiB of input.


def is_installed() -> bool:
    """Whether atheris is."""
    return find_spec("atheris") is not None


def fuzz(name: str, seconds: int, inputs: Path, found: Path) -> NoReturn:
    """Fuzz one harness, then end the process: with 0, or with a finding and its traceback.

    It begins with the folder `inputs`. What widens the coverage goes to the folder `found`, and an input that fails
    beside it, as NAME-crash-DIGEST. Must be the first in its process to import what is fuzzed.
    """
    atheris: Any = import_module("atheris")  # Installed for fuzzing only, and without types: hence Any.
    with atheris.instrument_imports(include=INSTRUMENTED):
        harness = load(name)

    def one_input(data: bytes) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        harness.check(data)
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert growth <= GROWTH_MAX_KIB, f"{len(data)} bytes of input made the process {growth} KiB larger"

    def mutated(data: bytes, size_max: int, seed: int) -> bytes:
        return mutate(harness, data, size_max, seed, atheris.Mutate)

    found.mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0],
        str(found),
        str(inputs),
        f"-max_total_time={seconds}",
        f"-max_len={harness.size_max}",
        f"-timeout={SECONDS_PER_INPUT_MAX}",
        f"-rss_limit_mb={MEMORY_MAX_MIB}",
        f"-artifact_prefix={found.parent}/{name}-",
        "-print_final_stats=1",
    ]
    atheris.Setup(arguments, one_input, custom_mutator=mutated)
    atheris.Fuzz()
    sys.exit(0)


def mutate(harness: Harness, data: bytes, size_max: int, seed: int, any_bytes: Any) -> bytes:
    """Change an input: as the structure has it, as libFuzzer likes, or both; then, mostly, mend its checksums."""
    random = Random(seed)
    if harness.mutate is None or random.randrange(2):
        data = any_bytes(data, size_max)
    if harness.mutate is not None and random.randrange(2):
        data = harness.mutate(data, random)
    if random.randrange(8):
        data = harness.repair(data)
    return data[:size_max]
