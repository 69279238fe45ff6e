"""Scrubbing finds rot of every kind, once around, and tells what it costs (PROTOCOL 7.5)."""

from __future__ import annotations

import pytest

from tests.storage.application import Host, encode_place
from tests.storage.fixtures import INCARNATION, append, chain, formatted, image, opened, proof_for
from trio_pb.core.manifest import Chunk, chunk_digest
from trio_pb.core.messages import GENESIS_CHECKPOINT, CheckpointId
from trio_pb.core.ports import (
    ChunkPut,
    ChunkRead,
    ChunkReadDone,
    Collect,
    Scrub,
    Scrubbed,
    SuperblockWrite,
    WalAppend,
    WalRead,
    WalReadDone,
)
from trio_pb.storage import scrub
from trio_pb.storage.disk import ListFiles, Read, Remove, Step, Write, run
from trio_pb.storage.journal import LOG_FOLDER, Segment
from trio_pb.storage.packs import Pack, encode_record, read_record
from trio_pb.storage.page import PAGE_HEAD_SIZE
from trio_pb.storage.proofs import COPY_DISTANCE, PROOFS_FILE

PREPARES = chain(12)
ALL_WELL = Scrubbed(is_round_done=True)


def scrub_round(host: Host) -> Scrubbed:
    """Scrub until the round is done; return everything that was found."""
    found: list[Scrubbed] = []
    while not found or not found[-1].is_round_done:
        [scrubbed] = host.put(Scrub())
        assert isinstance(scrubbed, Scrubbed)
        found.append(scrubbed)
        assert len(found) < 200
    return Scrubbed(
        records=tuple(record for it in found for record in it.records),
        chunks=tuple(chunk for it in found for chunk in it.chunks),
        proofs=any(it.proofs for it in found),
        superblock=any(it.superblock for it in found),
        is_round_done=True,
    )


def busy_host() -> tuple[Host, CheckpointId]:
    """Return a host with a dozen records, a live checkpoint of ten places, and a collected older one."""
    host = Host(formatted())
    for prepare in PREPARES:
        host.put(append(prepare))
    checkpoint = GENESIS_CHECKPOINT
    for op in (1, 2):
        for place in range(10):
            host.shelf.put(place, bytes([place, op]) * 300)
        checkpoint = host.checkpoint(op)
        host.make_live(checkpoint)
    return host, checkpoint


def test_healthy_disk_is_all_well() -> None:
    """Nothing is found where nothing is wrong, round after round, and nothing is written."""
    host, _ = busy_host()
    host.disk.steps.clear()
    assert scrub_round(host) == ALL_WELL
    assert scrub_round(host) == ALL_WELL
    assert all(isinstance(step, Read | ListFiles) for step in host.disk.steps)
    assert Host(host.disk).put(Scrub()) == [Scrubbed()]


@pytest.mark.parametrize("copy", range(4))
@pytest.mark.parametrize("position", [0, 20, 40, 50, 60, PAGE_HEAD_SIZE + 100])
def test_rot_in_a_superblock_copy(copy: int, position: int) -> None:
    """Any byte of any copy; writing the image again heals it."""
    host, checkpoint = busy_host()
    host.disk.cache["superblock"][copy * 16384 + position] ^= 1
    assert scrub_round(host) == Scrubbed(superblock=True, is_round_done=True)
    host.put(SuperblockWrite(3, image(3, checkpoint)))
    assert scrub_round(host) == ALL_WELL


@pytest.mark.parametrize("copy", range(2))
def test_rot_in_the_newest_proof(copy: int) -> None:
    """Either copy; a fresh proof heals it. Older slots hold nothing that is needed."""
    host, _ = busy_host()
    data = host.disk.cache["proofs"]
    slots = [slot for slot in range(4) if proof_for(PREPARES[-1]).checksums in data[slot * 4096 : slot * 4096 + 4096]]
    [slot] = slots
    data[copy * COPY_DISTANCE + slot * 4096 + 70] ^= 1
    assert scrub_round(host) == Scrubbed(proofs=True, is_round_done=True)
    host.put(WalAppend(99, (), proof_for(chain(1, after=PREPARES[-1])[0])))
    assert scrub_round(host) == ALL_WELL
    data[copy * COPY_DISTANCE + slot * 4096 + 80] ^= 1
    assert scrub_round(host) == ALL_WELL


@pytest.mark.parametrize("position", [0, 20, 40, 50, 60, 100, 520, 600])
def test_rot_in_a_record(position: int) -> None:
    """A record is told once and is missing from then on; appending it again heals it."""
    host, _ = busy_host()
    victim = PREPARES[4]
    host.disk.cache[Segment(1, 1).file][4 * 4096 + position] ^= 1
    assert scrub_round(host) == Scrubbed(records=(victim.id,), is_round_done=True)
    assert scrub_round(host) == ALL_WELL
    assert host.put(WalRead(victim.id)) == [WalReadDone(victim.id, None)]
    host.put(WalAppend(99, (victim,), None))
    assert host.put(WalRead(victim.id)) == [WalReadDone(victim.id, victim)]
    assert scrub_round(host) == ALL_WELL


def test_rot_in_a_record_with_a_newer_copy_costs_nothing() -> None:
    """Only what the bag points to counts."""
    host, _ = busy_host()
    host.put(WalAppend(99, (PREPARES[4],), None))
    host.disk.cache[Segment(1, 1).file][4 * 4096 + 600] ^= 1
    assert scrub_round(host) == ALL_WELL


def test_log_that_vanishes_while_it_runs() -> None:
    """Its records are told, and a proof is asked for even if nothing is missing: it begins a new log."""
    host, _ = busy_host()
    host.disk.lose_files(LOG_FOLDER)
    lost = scrub_round(host)
    assert lost == Scrubbed(records=tuple(prepare.id for prepare in PREPARES), proofs=True, is_round_done=True)
    assert not Host(host.disk.copy()).start.scan.has_log
    assert scrub_round(host) == Scrubbed(proofs=True, is_round_done=True)
    host.put(WalAppend(99, (), proof_for(chain(1, after=PREPARES[-1])[0])))
    assert scrub_round(host) == ALL_WELL
    assert Host(host.disk.copy()).start.scan.has_log
    host.put(WalAppend(100, (PREPARES[4],), None))
    assert host.put(WalRead(PREPARES[4].id)) == [WalReadDone(PREPARES[4].id, PREPARES[4])]
    assert scrub_round(host) == ALL_WELL


def test_segment_in_use_that_vanishes_is_followed_by_another() -> None:
    """As is the spare one; what the older segments hold is still there."""
    host = Host(formatted())
    host.put(append(PREPARES[0]))
    host = Host(host.disk)  # Appends to a segment of its own.
    kept = min(host.disk.files(LOG_FOLDER))
    for prepare in PREPARES[1:]:
        host.put(append(prepare))
    host.disk.lose_files(LOG_FOLDER, but=kept)
    lost = scrub_round(host)
    assert set(lost.records) == {prepare.id for prepare in PREPARES[1:]}
    assert not lost.proofs
    host.put(WalAppend(99, tuple(PREPARES[1:]), None))
    assert scrub_round(host) == ALL_WELL
    assert {record.op for record in Host(host.disk.copy()).start.scan.records} == {prepare.op for prepare in PREPARES}


@pytest.mark.parametrize("position", [0, 20, 40, 50, 60, 70, 100, 128, 300])
def test_rot_in_a_chunk(position: int) -> None:
    """A chunk of a kept checkpoint is told until it is healed, and is not served meanwhile."""
    host, _ = busy_host()
    data = encode_place(bytes([6, 2]) * 300)
    digest = chunk_digest(data)
    name, start = record_of(host, digest)
    host.disk.cache[name][start + position] ^= 1
    expected = Scrubbed(chunks=(Chunk(6, digest, len(data)),), is_round_done=True)
    assert scrub_round(host) == expected
    assert scrub_round(host) == expected
    assert host.put(ChunkRead(1, digest, 0, 10)) == [ChunkReadDone(1, digest, 0, None, 0)]
    assert scrub_round(Host(host.disk.copy())) == expected, "and after a restart"
    host.put(ChunkPut(digest, data))
    assert scrub_round(host) == ALL_WELL


def test_rot_in_a_manifest() -> None:
    """It comes as a chunk of place 0; the chunks that it names are not lost with it."""
    host, checkpoint = busy_host()
    name, start = record_of(host, checkpoint.digest)
    host.disk.cache[name][start + 200] ^= 1
    packs = host.packs
    expected = Scrubbed(chunks=(Chunk(0, checkpoint.digest, 0),), is_round_done=True)
    assert scrub_round(host) == expected
    host.put(Collect(0, (checkpoint,)))
    assert host.packs == packs
    assert scrub_round(host) == expected


def test_rot_in_garbage_is_nobody_s_business() -> None:
    """Chunks that no kept checkpoint names may rot in peace."""
    host, checkpoint = busy_host()
    for place in range(10):
        host.shelf.put(place, bytes([place, 3]) * 300)
    host.checkpoint(3)
    name, start = record_of(host, chunk_digest(encode_place(bytes([6, 3]) * 300)))
    host.disk.cache[name][start + 200] ^= 1
    host.put(Collect(0, (checkpoint,)))
    assert scrub_round(host) == ALL_WELL


@pytest.mark.parametrize("is_same_pack", [True, False])
def test_misdirected_chunk_is_found(is_same_pack: bool) -> None:
    """An intact record in the place of another, of the same pack or of another one, is exposed (T-17)."""
    host, _ = busy_host()
    name, start = record_of(host, chunk_digest(encode_place(bytes([6, 2]) * 300)))
    if is_same_pack:
        foreign = record_of(host, chunk_digest(encode_place(bytes([5, 2]) * 300)))[1]
        host.disk.cache[name][start : start + 768] = host.disk.cache[name][foreign : foreign + 768]
    else:
        # Even the right chunk, at its own offset, but sealed for another pack: what is there was never written there.
        nonce = Pack(99).nonce(INCARNATION)
        data = bytes(host.disk.cache[name])
        record = read_record(data, Pack(int(name[-8:])).nonce(INCARNATION), start, start)
        assert record is not None
        forged = encode_record(record.digest, record.chunk, nonce=nonce, offset=start, sequence=record.sequence)
        host.disk.cache[name][start : start + len(forged)] = forged
    assert [chunk.place for chunk in scrub_round(host).chunks] == [6]


def test_slices_are_bounded_and_appends_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice reads up to its size and no more, and an append that waits is not held up."""
    monkeypatch.setattr(scrub, "SCRUB_BYTES", 9000)
    host, _ = busy_host()
    slices = 0
    while True:
        host.disk.steps.clear()
        [scrubbed] = host.put(Scrub())
        assert isinstance(scrubbed, Scrubbed)
        slices += 1
        if slices > 1:
            assert sum(step.size for step in host.disk.steps if isinstance(step, Read)) <= 9000
        if scrubbed.is_round_done:
            break
    assert slices > 8
    host.store.put(Scrub())
    host.store.put(WalAppend(99, (PREPARES[0],), None))
    host.disk.steps.clear()
    assert host.run_job()
    assert isinstance(host.disk.steps[0], Write)


def test_files_may_vanish_between_slices() -> None:
    """Collecting in the middle of a round is no damage."""
    host, checkpoint = busy_host()
    for place in range(10):
        host.shelf.put(place, bytes([place, 3]) * 300)
    last = host.checkpoint(3)
    host.put(Collect(0, (checkpoint, last)))
    host.put(Scrub())
    host.put(Scrub())
    host.put(Collect(1000, (last,)))
    assert scrub_round(host) == ALL_WELL
    assert scrub_round(host) == ALL_WELL


def record_of(host: Host, digest: bytes) -> tuple[str, int]:
    """Return file and offset of the newest record of a chunk."""
    for name in reversed(host.packs):
        at = host.disk.cache[name].rfind(digest)
        while at >= 0:
            if at % 128 == PAGE_HEAD_SIZE:
                return name, at - PAGE_HEAD_SIZE
            at = host.disk.cache[name].rfind(digest, 0, at)
    raise AssertionError("no such record")


def test_checkpoint_that_never_was_here_is_no_damage() -> None:
    """What others certified, and this replica has not written yet, is not missing."""
    host, checkpoint = busy_host()
    host.put(Collect(0, (checkpoint, CheckpointId(3, b"?" * 32))))
    assert scrub_round(host) == ALL_WELL


def test_scrubbing_reads_the_device_and_misses_no_proof() -> None:
    """What a cache shows is no evidence; and a file without any proof is not whole."""
    disk = formatted()
    store, _ = opened(disk)
    store.put(Scrub())
    job = store.take()
    assert job is not None
    seen: list[Step] = []
    result: object = None
    while True:
        try:
            step = job.send(result)
        except StopIteration:
            break
        seen.append(step)
        result = disk.do(step)
    reads = [step for step in seen if isinstance(step, Read)]
    assert reads
    assert all(step.is_from_device for step in reads)
    disk.do(Remove(PROOFS_FILE))
    again, _ = opened(disk)
    again.put(Scrub())
    job = again.take()
    assert job is not None
    assert [found.proofs for found in run(disk, job) if isinstance(found, Scrubbed)] == [True]
