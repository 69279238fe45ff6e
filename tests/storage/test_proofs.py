"""A proof that was completed, or was opened, is never lost to a crash (R-PROOF, T-36)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.crash_disk import CrashDisk, survivals
from tests.storage.fixtures import GENESIS, INCARNATION, open_proofs
from trio_pb.core.durable import Proof
from trio_pb.core.prepare import PrepareId
from trio_pb.errors import StorageError
from trio_pb.storage.disk import run
from trio_pb.storage.proofs import COPY_DISTANCE, COPY_SIZE, PROOFS_FILE, ProofFile, decode, encode


def proof(sequence: int) -> Proof:
    """Return a proof that is recognised by its sequence, in each of the several sectors that it fills."""
    return Proof(sequence, 3, sequence, bytes([sequence]) * 1024, GENESIS)


def disk_with(*sequences: int) -> tuple[CrashDisk, ProofFile]:
    """Return a disk and an open file after complete writes of proof 0 and these."""
    disk = CrashDisk()
    run(disk, ProofFile(INCARNATION).format(proof(0)))
    proofs = ProofFile(INCARNATION)
    run(disk, open_proofs(proofs))
    for sequence in sequences:
        run(disk, proofs.write(proof(sequence)))
    return disk, proofs


def newest(disk: CrashDisk) -> int:
    """Open and return the sequence found."""
    found = run(disk, open_proofs(ProofFile(INCARNATION)))
    assert found is not None
    return found.sequence


@pytest.mark.parametrize("sequences", [(), (1,), (1, 2, 3), (1, 2, 3, 4, 5), (4, 8), (4, 8, 12), (1, 5, 9, 13)])
def test_torn_write_leaves_the_newest(sequences: tuple[int, ...]) -> None:
    """However many sequences were skipped, the write of the next proof harms only older ones (T-36)."""
    last = sequences[-1] if sequences else 0
    for cut in range(4):
        for survives in survivals():
            disk, proofs = disk_with(*sequences)
            disk.run_until_cut(proofs.write(proof(last + 4)), cut)
            found = newest(disk.after_power_cut(survives))
            assert found in (last, last + 4)
            assert found == last + 4 or cut < 3, "a finished proof is durable"


def test_restarts_between_torn_writes_never_go_back() -> None:
    """Torn write, restart, torn write, over and over: the newest proof that an opening returned stays."""
    for survives in survivals():
        disk, proofs = disk_with(1)
        for sequence in range(10, 20):
            disk.run_until_cut(proofs.write(proof(sequence)), sequence % 3)
            disk = disk.after_power_cut(survives)
            seen = newest(disk.copy())
            for cut in range(12):
                again = disk.copy()
                again.run_until_cut(open_proofs(ProofFile(INCARNATION)), cut)
                assert newest(again.after_power_cut(survives)) == seen
            proofs = ProofFile(INCARNATION)
            found = run(disk, open_proofs(proofs))
            assert found is not None
            assert found.sequence == seen


def test_proof_that_only_the_cache_has_is_made_durable_by_opening() -> None:
    """A proof whose flush failed is read after a restart; from then on it must hold (T-12)."""
    disk, proofs = disk_with(1)
    disk.steps.clear()
    disk.fail_flush_at = 2
    with pytest.raises(StorageError):
        run(disk, proofs.write(proof(2)))
    disk.fail_flush_at = None
    restarted = disk.copy()
    assert newest(restarted) == 2
    assert newest(restarted.after_power_cut(lambda _: False)) == 2


def test_either_copy_is_enough_and_damage_falls_back() -> None:
    """One damaged copy costs nothing; with both the newest valid proof remains; with all there is none."""
    for copy in range(2):
        disk, _ = disk_with(1, 2)  # Opening wrote proof 0 to slot 1 again; so these are in slots 2 and 3.
        disk.cache[PROOFS_FILE][copy * COPY_DISTANCE + 3 * COPY_SIZE + 80] ^= 1
        assert newest(disk) == 2
    disk, _ = disk_with(1, 2)
    for copy in range(2):
        disk.cache[PROOFS_FILE][copy * COPY_DISTANCE + 3 * COPY_SIZE + 80] ^= 1
    assert newest(disk) == 1
    disk.cache[PROOFS_FILE][:] = bytes(len(disk.cache[PROOFS_FILE]))
    assert run(disk, open_proofs(ProofFile(INCARNATION))) is None


def test_proof_in_the_place_of_another_is_not_read() -> None:
    """A misdirected write of an old proof over all slots leaves none (T-17)."""
    disk, _ = disk_with(1)
    data = disk.cache[PROOFS_FILE]
    page = bytes(data[2 * COPY_SIZE : 3 * COPY_SIZE])
    for start in range(0, len(data), COPY_SIZE):
        data[start : start + COPY_SIZE] = page
    data[2 * COPY_SIZE : 3 * COPY_SIZE] = bytes(COPY_SIZE)
    assert run(disk, open_proofs(ProofFile(INCARNATION))) is None


def test_older_proof_is_refused() -> None:
    """Writing a proof that is not newer would hide behind the newest: an error of ours."""
    disk, proofs = disk_with(5)
    with pytest.raises(AssertionError, match="R-PROOF"):
        run(disk, proofs.write(proof(5)))


def test_proof_survives_encoding() -> None:
    """The largest proof comes back equal and fits its page."""
    largest = Proof((1 << 64) - 1, 1 << 63, 1 << 63, b"s" * 1024, PrepareId(5, b"c" * 16))
    assert decode(encode(largest)) == largest
    assert len(encode(largest)) <= COPY_SIZE - 64


@given(st.binary(max_size=200))
def test_decoder_takes_any_bytes(data: bytes) -> None:
    """Random bytes are no proof, and no exception."""
    assert decode(data) is None


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=255))
def test_decoder_takes_any_damage(position: int, value: int) -> None:
    """One changed byte gives another valid proof or none; never an exception."""
    data = bytearray(encode(proof(3)))
    data[position % len(data)] = value
    found = decode(bytes(data))
    assert found is None or encode(found) == bytes(data)
