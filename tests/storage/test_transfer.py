"""A checkpoint of another replica arrives chunk by chunk, across restarts, and replaces the state at once (8.2)."""

from __future__ import annotations

import pytest

from tests.storage import application
from tests.storage.application import Host, State, core_state, encode_malformed, encode_place
from tests.storage.crash_disk import CrashDisk, PowerCutError, survivals
from tests.storage.fixtures import formatted, image
from trio_pb.core.manifest import Chunk, chunk_digest, decode_manifest
from trio_pb.core.messages import CheckpointId
from trio_pb.core.ports import (
    ChunkPut,
    ChunkRead,
    ChunkReadDone,
    ChunkStored,
    Collect,
    Installed,
    InstallFailed,
    Scrub,
    Scrubbed,
    SuperblockWrite,
    SyncBegin,
    SyncState,
)
from trio_pb.errors import StorageError
from trio_pb.storage import checkpoints
from trio_pb.storage.packs import CHECKPOINT_FOLDER


class Source:
    """A replica that has a checkpoint, as the peers of another one see it."""

    def __init__(self, places: range = range(12), content: bytes = b"theirs") -> None:
        self._host = Host(formatted())
        for place in places:
            self._host.shelf.put(place, bytes([place]) + content * 90)
        self.state: State = dict(self._host.shelf.state)
        self.target = self._host.checkpoint(64)
        self.manifest = self.chunk(self.target.digest)

    def chunk(self, digest: bytes) -> bytes:
        """What a peer gets from it."""
        [done] = self._host.put(ChunkRead(1, digest, 0, 1 << 20))
        assert isinstance(done, ChunkReadDone)
        assert done.data is not None
        return done.data

    @property
    def begin(self) -> SyncBegin:
        """The first step of a transfer from it."""
        return SyncBegin(self.target, self.manifest)


def missing_at(host: Host, source: Source) -> tuple[Chunk, ...]:
    """Begin a transfer; return what is missing."""
    [state] = host.put(source.begin)
    assert isinstance(state, SyncState)
    assert state.target == source.target
    assert state.missing is not None
    return state.missing


def put_chunks(host: Host, source: Source, chunks: tuple[Chunk, ...]) -> None:
    """Fetch and store these chunks."""
    for chunk in chunks:
        assert host.put(ChunkPut(chunk.digest, source.chunk(chunk.digest))) == [ChunkStored(chunk.digest)]


def scrub(host: Host) -> set[bytes]:
    """Go once around; return what chunks are told to be damaged."""
    found: set[bytes] = set()
    for _ in range(100):
        [scrubbed] = host.put(Scrub())
        assert isinstance(scrubbed, Scrubbed)
        found.update(chunk.digest for chunk in scrubbed.chunks)
        if scrubbed.is_round_done:
            return found
    raise AssertionError("scrubbing goes on and on")


def test_transfer_brings_the_state_over() -> None:
    """Missing chunks are told once each, stored, decoded beside the state, and adopted as a whole."""
    source = Source()
    host = Host(formatted())
    host.shelf.put(1, b"ours")
    missing = missing_at(host, source)
    assert set(missing) == set(decode_manifest(source.manifest).chunks)
    assert [chunk.place for chunk in missing if chunk.size > 500] == list(range(12))
    put_chunks(host, source, missing)
    assert host.install(source.target) == [Installed(source.target, core_state(64))]
    assert host.shelf.state == {1: b"ours"}
    host.adopt(source.target)
    assert host.shelf.state == source.state


@pytest.mark.parametrize("is_certified_first", [True, False])
def test_scrubbing_takes_no_transfer_under_way_for_damage(is_certified_first: bool) -> None:
    """Others certify what is being copied, before it begins or in the middle of it: its chunks are on their way."""
    source = Source()
    host = Host(formatted())
    keep = Collect(0, (source.target,))
    if is_certified_first:
        host.put(keep)
    missing = missing_at(host, source)
    if not is_certified_first:
        host.put(keep)
    assert scrub(host) == set()
    put_chunks(host, source, missing[:4])
    assert scrub(host) == set()
    put_chunks(host, source, missing[4:])
    assert host.install(source.target) == [Installed(source.target, core_state(64))]
    host.adopt(source.target)
    host.make_live(source.target)
    # From here on what is missing was lost.
    host.disk.lose_files(CHECKPOINT_FOLDER)
    assert scrub(host) == {source.target.digest, *(chunk.digest for chunk in missing)}


def test_copied_state_is_scrubbed_before_anything_is_freed() -> None:
    """Nothing can be freed before the second certificate: the first state may rot long before that."""
    source = Source()
    host = Host(formatted())
    missing = missing_at(host, source)
    put_chunks(host, source, missing)
    host.install(source.target)
    host.adopt(source.target)
    host.put(SuperblockWrite(64, image(64, source.target)))
    assert scrub(host) == set()
    host.disk.lose_files(CHECKPOINT_FOLDER)
    assert source.target.digest in scrub(host)


def test_chunks_that_are_here_already_count() -> None:
    """A replica that lags has most of the state: only what differs is missing."""
    source = Source()
    host = Host(formatted())
    for place, data in source.state.items():
        host.shelf.put(place, data if place % 4 else b"old")
    host.checkpoint(32)
    missing = missing_at(host, source)
    assert {chunk.place for chunk in missing if chunk.size > 500} == {0, 4, 8}
    put_chunks(host, source, missing)
    assert [type(it) for it in host.install(source.target)] == [Installed]


def test_transfer_goes_on_after_a_restart() -> None:
    """What was stored before a power cut is not asked for again."""
    source = Source()
    host = Host(formatted())
    missing = missing_at(host, source)
    put_chunks(host, source, missing[:7])
    host = Host(host.disk.after_power_cut(lambda _: False))
    assert missing_at(host, source) == missing[7:]
    put_chunks(host, source, missing[7:])
    assert [type(it) for it in host.install(source.target)] == [Installed]


def test_target_is_kept_while_it_is_under_way() -> None:
    """Garbage collection in the middle of a transfer takes nothing of it, nor after the core keeps it."""
    source = Source()
    host = Host(formatted())
    missing = missing_at(host, source)
    put_chunks(host, source, missing[:7])
    host.put(Collect(0, ()))
    assert missing_at(host, source) == missing[7:]
    put_chunks(host, source, missing[7:])
    host.put(Collect(0, ()), Collect(0, (source.target,)), Collect(0, (source.target,)))
    assert [type(it) for it in host.install(source.target)] == [Installed]
    other = Source(content=b"newer")
    missing_at(host, other)
    host.put(Collect(0, ()))
    assert host.install(source.target) == [InstallFailed(source.target)], "replaced by another target"


@pytest.mark.parametrize("damage", ["other bytes", "not a manifest", "another op", "another cluster"])
def test_manifest_of_something_else_is_refused(damage: str) -> None:
    """Bytes that are not the manifest of the target change nothing."""
    source = Source()
    manifest, op = source.manifest, 64
    if damage == "other bytes":
        target = CheckpointId(64, b"?" * 32)
    else:
        manifest = {"not a manifest": b"\x01", "another op": manifest}.get(
            damage, manifest.replace(b"c" * 16, b"d" * 16)
        )
        op = 65 if damage == "another op" else 64
        target = CheckpointId(op, chunk_digest(manifest))
    host = Host(formatted())
    assert host.put(SyncBegin(target, manifest)) == [SyncState(target, None)]
    assert host.packs == []


def test_rot_during_a_transfer_is_found_by_the_install() -> None:
    """Every chunk is verified when it is installed; the next beginning tells of all that are damaged."""
    source = Source()
    host = Host(formatted())
    put_chunks(host, source, missing_at(host, source))
    for place in (3, 8):
        digest = chunk_digest(encode_place(source.state[place]))
        for name in host.packs:
            data = host.disk.cache[name]
            at = data.find(digest)
            if at >= 0:
                data[at + 600] ^= 1
    assert host.install(source.target) == [InstallFailed(source.target)]
    missing = missing_at(host, source)
    assert [chunk.place for chunk in missing] == [3, 8]
    put_chunks(host, source, missing)
    assert host.install(source.target) == [Installed(source.target, core_state(64))]


def test_install_is_read_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the state, a job reads a slice of it."""
    source = Source()
    host = Host(formatted())
    put_chunks(host, source, missing_at(host, source))
    monkeypatch.setattr(checkpoints, "SLICE_BYTES", 1500)
    host.disk.steps.clear()
    before = len(host.told)
    host.install(source.target)
    assert host.told[before:] == [Installed(source.target, core_state(64))]
    host.adopt(source.target)
    assert host.shelf.state == source.state


def test_certified_state_that_does_not_decode_stops_the_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digests are right and the bytes make no sense: no transfer could do better."""
    monkeypatch.setattr(application, "encode_place", encode_malformed)
    source = Source()
    host = Host(formatted())
    put_chunks(host, source, missing_at(host, source))
    with pytest.raises(StorageError, match="does not decode"):
        host.install(source.target)


def transfer(host: Host, source: Source, stored: list[Chunk]) -> None:
    """Transfer everything and make it live; `stored` gets what was completed."""
    for chunk in missing_at(host, source):
        host.put(ChunkPut(chunk.digest, source.chunk(chunk.digest)))
        stored.append(chunk)
    assert [type(it) for it in host.install(source.target)] == [Installed]
    host.put(SuperblockWrite(64, image(64, source.target)))
    host.put(Collect(0, (source.target,)))


def test_crash_at_every_step_of_a_transfer_keeps_what_was_stored() -> None:
    """Cut the power anywhere: a chunk that was told stored is not missing later, and the target becomes whole."""
    source = Source(range(5))

    def crash(cut: int) -> tuple[CrashDisk, list[Chunk], bool]:
        host = Host(formatted())
        host.disk.steps.clear()
        host.disk.cut_at = cut
        stored: list[Chunk] = []
        try:
            transfer(host, source, stored)
        except PowerCutError:
            return host.disk, stored, False
        return host.disk, stored, True

    for cut in range(200):
        disk, stored, is_whole = crash(cut)
        if is_whole:
            break
        for survives in survivals():
            host = Host(disk.after_power_cut(survives))
            if host.start.superblock.checkpoint.op:
                assert host.start.checkpoint == core_state(64)
                assert host.shelf.state == source.state
            else:
                assert not set(missing_at(host, source)) & set(stored)
    else:
        pytest.fail("the transfer never ends")
    assert cut > 30
