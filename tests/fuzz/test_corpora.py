"""All inputs of the corpora, checked without atheris; and that the harnesses would notice a decoder that is broken."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import corpus
from tests.fuzz.campaign import Outcome, read_log, tell
from tests.fuzz.catalogue import ROOMS, load
from tests.fuzz.engine import mutate
from tests.fuzz.harness import Harness
from trio_pb import canonical
from trio_pb.codec import frames
from trio_pb.core import manifest
from trio_pb.storage import page

CORPUS = Path(__file__).parent / "corpus"
CORPUS_SIZE_MAX = 300 << 10  # Bytes.

# What a check may take, beside what is kept for later ones: a machine of its own, or a file of 1 MiB on its disk.
MEMORY_MAX = 8 << 20

MUTANTS = 300  # Of each input of a harness, where a bug is looked for.


@pytest.mark.parametrize("name", ROOMS)
def test_the_corpus_passes(name: str) -> None:
    """Seeds, what reaches other branches, and what once failed."""
    harness = load(name)
    paths = corpus.files(CORPUS / name)
    assert len(paths) >= 2
    for path in paths:
        data = path.read_bytes()
        assert len(data) <= harness.size_max, f"{path}: longer than what the fuzzer tries"
        harness.check(data)


@pytest.mark.parametrize("name", ROOMS)
def test_the_seeds_are_real_encodings_of_today(name: str) -> None:
    """After a change of a format: python -m tests.fuzz --seeds."""
    seeds = [path.read_bytes() for path in corpus.files(CORPUS / name) if path.name.startswith("seed-")]
    assert seeds == list(load(name).seeds())


def test_the_corpora_are_small_and_complete() -> None:
    """A folder for each harness, none for others, and no burden to whoever clones."""
    assert {path.name for path in CORPUS.iterdir()} == set(ROOMS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < CORPUS_SIZE_MAX


@pytest.mark.parametrize("name", ["cbor", "frames", "messages", "journal", "packs", "manifest", "state"])
def test_a_few_bytes_never_take_much_memory(name: str) -> None:
    """The largest input of each corpus, and one of a few bytes that announces gigabytes."""
    harness = load(name)
    largest = max(corpus.files(CORPUS / name), key=lambda path: path.stat().st_size).read_bytes()
    harness.check(largest)  # What is made once is made now.
    for data in (largest, b"\x9b" + b"\x7f" * 8, b"\x5b" + b"\x7f" * 8, b"\xff" * 64):
        tracemalloc.start()
        try:
            harness.check(data)
            assert tracemalloc.get_traced_memory()[1] < MEMORY_MAX
        finally:
            tracemalloc.stop()


# --- Harnesses that notice ------------------------------------------------------------------------


def hunt(harness: Harness) -> bool:
    """Whether a few changes to the corpus make the harness fail: blindly, where atheris is guided."""

    def any_bytes(data: bytes, size_max: int) -> bytes:
        at = random.randrange(len(data) + 1)
        return (data[:at] + random.randbytes(random.randrange(4)) + data[at + random.randrange(4) :])[:size_max]

    random = Random(1)
    for path in corpus.files(CORPUS / harness.name):
        data = path.read_bytes()
        for _ in range(MUTANTS):
            try:
                harness.check(mutate(harness, data, harness.size_max, random.getrandbits(32), any_bytes))
            except Exception:  # Whatever it is, it is a finding.
                return True
    return False


def without_digest(header: bytes, body: bytes, digest: bytes) -> frames.Frame:
    """Cut a frame and believe it."""
    del digest
    return frames.Frame(header, body)


def whatever(value: object) -> object:
    """Read what stands there."""
    return value


@pytest.mark.parametrize(
    ("name", "module", "function", "broken"),
    [
        ("cbor", canonical, "decode", canonical.decode_relaxed),
        ("frames", frames, "_frame", without_digest),
        ("manifest", manifest, "_unsigned", whatever),
        ("sessions", manifest, "_checksum", whatever),
    ],
)
def test_a_harness_notices_a_check_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, name: str, module: object, function: str, broken: object
) -> None:
    """Each of these decoders without one of its checks."""
    assert not hunt(load(name))
    monkeypatch.setattr(module, function, broken)
    assert hunt(load(name))


@pytest.mark.parametrize("name", ROOMS)
def test_any_change_can_be_made_and_mended(name: str) -> None:
    """Mutation and repair take any bytes, as a fuzzer gives them."""
    harness = load(name)
    random = Random(2)
    inputs = [path.read_bytes() for path in corpus.files(CORPUS / name)][:5]
    for data in (b"", b"\0" * 100, b"\xff" * 100, *inputs):
        changed = data
        for _ in range(10):
            changed = mutate(harness, changed, harness.size_max, random.getrandbits(32), unchanged)
            assert len(changed) <= harness.size_max


def unchanged(data: bytes, size_max: int) -> bytes:
    """Leave all changes to the harness."""
    return data[:size_max]


def test_a_seal_is_mended() -> None:
    """What was changed below a checksum passes it: without that the fuzzer would see the checksum only."""
    harness = load("journal")
    seed = next(harness.seeds())
    damaged = seed[:-1] + bytes([seed[-1] ^ 1])
    assert harness.repair(seed) == seed
    assert harness.repair(damaged) != damaged
    assert page.open_page(harness.repair(damaged)[:512], magic=seed[16:24], owner=seed[32:48], place=0) is not None


# --- The table ------------------------------------------------------------------------------------


def test_figures_come_from_the_log_of_the_fuzzer() -> None:
    """And the input that failed."""
    log = (
        "#7\tNEW    cov: 12 ft: 30 corp: 2/9b\n#9\tREDUCE cov: 1303 ft: 3771 corp: 9/9b\n"
        "Test unit written to /tmp/x/cbor-crash-00ff\n"
        "stat::number_of_executed_units: 1234567\nstat::new_units_added:          88\n"
    )
    found = read_log("cbor", 77, log)
    assert found.failed_input == "/tmp/x/cbor-crash-00ff"
    assert tell(found) == "cbor            1,234,567     1,303     3,771          88  FOUND SOMETHING"
    clean = Outcome(name="x", exit_code=0, executions=1, coverage=2, features=3, new_inputs=4, log="")
    assert clean.failed_input is None
    assert tell(clean).split() == ["x", "1", "2", "3", "4"]
    assert read_log("x", 1, "no atheris").executions == 0
