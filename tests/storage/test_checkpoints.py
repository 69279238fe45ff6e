"""A checkpoint that was completed loads again, wherever the power goes (PROTOCOL 9)."""

from __future__ import annotations

import attrs
import pytest

from tests.storage import application
from tests.storage.application import Host, State, core_state, encode_malformed, encode_place
from tests.storage.crash_disk import CrashDisk, PowerCutError, Survival, survivals
from tests.storage.fixtures import append, chain, formatted, image
from trio_pb.core import manifest
from trio_pb.core.manifest import chunk_digest
from trio_pb.core.messages import CheckpointId
from trio_pb.core.ports import CheckpointDone, ChunkRead, ChunkReadDone, SuperblockWrite, WalDone
from trio_pb.errors import StorageError
from trio_pb.storage.disk import Flush, Write


def fill(host: Host, places: range, content: bytes, size: int = 600) -> State:
    """Write these places; return the whole state."""
    for place in places:
        host.shelf.put(place, bytes([place]) + content * (size // len(content)))
    return dict(host.shelf.state)


def written_bytes(disk: CrashDisk) -> int:
    """Bytes written to packs since `steps` was cleared."""
    return sum(len(it.data) for it in disk.steps if isinstance(it, Write) and it.file.startswith("checkpoints/"))


def test_checkpoint_is_loaded_at_the_next_opening() -> None:
    """Application, sessions and the core's state come back exactly as they were frozen, not as they are later."""
    host = Host(formatted())
    assert host.start.checkpoint is None
    state = fill(host, range(20), b"a")
    host.begin(64)
    fill(host, range(5, 30), b"later")
    host.settle()
    [done] = host.told
    assert isinstance(done, CheckpointDone)
    host.make_live(done.id)
    assert host.shelf.frozen == 0

    again = Host(host.disk)
    assert again.start.checkpoint == core_state(64)
    assert again.shelf.state == state


def test_equal_states_have_equal_identities() -> None:
    """Two replicas that froze the same state tell the same id, whatever they wrote before."""
    one, other = Host(formatted()), Host(formatted())
    fill(one, range(10), b"x")
    one.checkpoint(64)
    fill(one, range(10), b"y")
    fill(other, range(10), b"y")
    assert one.checkpoint(128) == other.checkpoint(128)


def test_unchanged_chunks_are_written_once() -> None:
    """The second checkpoint costs what changed, not what there is."""
    host = Host(formatted())
    fill(host, range(100), b"a")
    host.make_live(host.checkpoint(64))
    host.disk.steps.clear()
    host.shelf.encoded = 0
    fill(host, range(3), b"b")
    host.make_live(host.checkpoint(128))
    assert host.shelf.encoded == 3
    assert written_bytes(host.disk) < 3 * 1024 + 16 * 1024, "three chunks, sessions and the manifest"


def test_known_chunk_that_rotted_is_encoded_again() -> None:
    """The application believes that a chunk is on disk, and it is not any more: the checkpoint is whole anyway."""
    host = Host(formatted())
    state = fill(host, range(10), b"a")
    host.make_live(host.checkpoint(64))
    lost = chunk_digest(encode_place(state[7]))
    for name in host.packs:
        host.disk.cache[name][:] = host.disk.cache[name].replace(lost, b"?" * 32)
    host.put(ChunkRead(1, lost, 0, 10))
    checkpoint = host.checkpoint(128)
    host.put(SuperblockWrite(128, image(128, checkpoint)))
    again = Host(host.disk)
    assert again.shelf.state == state
    assert again.start.checkpoint == core_state(128)


def test_certified_checkpoint_is_loaded_when_our_own_is_damaged() -> None:
    """R-SCAN 1: the newest readable one of the two; none leaves the application empty."""
    host = Host(formatted())
    old = fill(host, range(10), b"a")
    certified = host.checkpoint(64)
    fill(host, range(10), b"b")
    newest = host.checkpoint(128)
    host.put(SuperblockWrite(1, attrs.evolve(image(1, newest), certified=certified)))
    for checkpoint, loaded in ((newest, core_state(64)), (certified, None)):
        for name in host.packs:
            host.disk.cache[name][:] = host.disk.cache[name].replace(checkpoint.digest, b"?" * 32)
        again = Host(host.disk.copy())
        assert again.start.checkpoint == loaded
        assert again.shelf.state == (old if loaded else {})


def test_checkpoint_of_another_cluster_or_op_is_none() -> None:
    """A manifest counts only as what it is (op and cluster stand in it)."""
    host = Host(formatted())
    fill(host, range(3), b"a")
    checkpoint = host.checkpoint(64)
    host.put(SuperblockWrite(1, image(1, CheckpointId(65, checkpoint.digest))))
    assert Host(host.disk).start.checkpoint is None


def test_malformed_chunk_leaves_the_application_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that does not decode is none, and nothing of it is adopted."""
    host = Host(formatted())
    fill(host, range(3), b"a")
    monkeypatch.setattr(application, "encode_place", encode_malformed)
    checkpoint = host.checkpoint(64)
    host.put(SuperblockWrite(1, image(1, checkpoint)))
    again = Host(host.disk)
    assert again.start.checkpoint is None
    assert again.shelf.state == {}


def test_appends_go_between_the_slices_of_a_checkpoint() -> None:
    """While 8 MiB are written, an append waits for one job at most, and no job writes much over half a MiB."""
    host = Host(formatted(), pack_size=4 << 20, budget=1 << 20)
    fill(host, range(200), b"large", size=40_000)
    host.begin(64)
    prepares = iter(chain(200))
    host.store.put(append(next(prepares)))
    slices = commits = waited = 0
    while not any(isinstance(it, CheckpointDone) for it in host.told):
        host.advance()
        host.disk.steps.clear()
        told = len(host.told)
        assert host.run_job()
        assert sum(len(step.data) for step in host.disk.steps if isinstance(step, Write)) <= 600_000
        if any(isinstance(it, WalDone) for it in host.told[told:]):
            commits += 1
            waited = 0
            host.store.put(append(next(prepares)))
        else:
            slices += 1
            waited += 1
            assert waited <= 1, "an append waits for one slice at most"
        assert commits <= 4 * slices + 4, "and the checkpoint is not put off for ever"
    assert slices > 20


def test_a_manifest_of_many_chunks_is_encoded_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """No slice encodes much of it, so turns go on in between; what comes out is the same checkpoint."""
    host, other = Host(formatted(), budget=1 << 20), Host(formatted())
    fill(host, range(40), b"a")
    fill(other, range(40), b"a")
    expected = other.checkpoint(64)
    monkeypatch.setattr(manifest, "CHUNKS_PER_PIECE", 2)
    host.begin(64)
    slices = 0
    while not host.told:
        is_slice = host.advance()
        slices += not host.run_job() and is_slice  # It gave the store nothing to do.
    assert slices == 5  # Of four pieces each; the last piece comes with the rest.
    assert host.told == [CheckpointDone(expected)]


def test_chunks_are_read_in_pieces() -> None:
    """What a peer asks for, of chunks and of the manifest; past the end nothing, and None for what is not there."""
    host = Host(formatted())
    state = fill(host, range(4), b"abcdefgh")
    checkpoint = host.checkpoint(64)
    data = encode_place(state[2])
    digest = chunk_digest(data)
    assert host.put(
        ChunkRead(1, digest, 0, 256), ChunkRead(2, digest, 256, 9999), ChunkRead(1, digest, len(data), 10)
    ) == [
        ChunkReadDone(1, digest, 0, data[:256], len(data)),
        ChunkReadDone(2, digest, 256, data[256:], len(data)),
        ChunkReadDone(1, digest, len(data), b"", len(data)),
    ]
    [manifest] = host.put(ChunkRead(1, checkpoint.digest, 0, 1 << 20))
    assert isinstance(manifest, ChunkReadDone)
    assert chunk_digest(manifest.data or b"") == checkpoint.digest
    assert host.put(ChunkRead(1, b"?" * 32, 5, 10)) == [ChunkReadDone(1, b"?" * 32, 5, None, 0)]


# --- Crashes --------------------------------------------------------------------------------------


class Promises:
    """Every state frozen so far, and which checkpoint must be there at least."""

    def __init__(self) -> None:
        self.states: dict[int, State] = {}
        self.live = 0  # Op of the checkpoint that the superblock certainly names.
        self.asked = 0  # Of the one that it may name.

    def check(self, disk: CrashDisk) -> None:
        """Assert that a reopened store has one of those checkpoints, whole."""
        host = Host(disk)
        op = host.start.superblock.checkpoint.op
        assert self.live <= op <= self.asked
        if op:
            assert host.start.checkpoint == core_state(op)
            assert host.shelf.state == self.states[op]
        else:
            assert host.start.checkpoint is None


def run_script(host: Host, promises: Promises) -> None:
    """Four checkpoints, each made live; then what only older ones named is collected, and the rest compacted."""
    for number, places in enumerate((range(16), range(12), range(3, 5), range(2, 15)), start=1):
        op = number * 4
        promises.states[op] = fill(host, places, b"%d" % number, size=900)
        checkpoint = host.checkpoint(op)
        promises.asked = op
        host.make_live(checkpoint)
        promises.live = op


def crash_in_script(cut: int, survives: Survival) -> tuple[CrashDisk, Promises]:
    """Run the script until the power goes at step `cut`."""
    host = Host(formatted())
    host.disk.steps.clear()
    host.disk.cut_at = cut
    promises = Promises()
    with pytest.raises(PowerCutError):
        run_script(host, promises)
    return host.disk.after_power_cut(survives), promises


def count_steps() -> int:
    """Return how many steps the script takes; it compacts and removes packs."""
    host = Host(formatted())
    host.disk.steps.clear()
    run_script(host, Promises())
    assert len(host.packs) <= 3
    return len(host.disk.steps)


@pytest.mark.parametrize("number", range(len(survivals())))
def test_crash_at_every_step_keeps_the_live_checkpoint(number: int) -> None:
    """Cut the power before or in every step of writing, compacting and removing: the live checkpoint loads."""
    steps = count_steps()
    assert steps > 80
    for cut in range(steps):
        disk, promises = crash_in_script(cut, survivals()[number])
        promises.check(disk)


def test_crash_while_opening_after_a_crash_keeps_the_live_checkpoint() -> None:
    """Opening writes too: cut it at every step after a crash at the end of the script."""
    steps = count_steps()
    for number, cut in enumerate(range(steps - 14, steps)):
        torn, promises = crash_in_script(cut, lambda _: True)
        for survives in (survivals()[0], survivals()[3]):
            for open_cut in range(number % 3, 40, 3):
                disk = torn.copy()
                disk.cut_at = open_cut
                try:
                    Host(disk)
                except PowerCutError:
                    promises.check(disk.after_power_cut(survives))


def test_chunk_that_only_the_cache_has_is_made_durable_by_opening() -> None:
    """A failed flush, a restart, a checkpoint that shares the chunks, a power cut: all is there (T-12)."""
    host = Host(formatted())
    state = fill(host, range(2), b"a")
    host.begin(64)
    host.disk.steps.clear()
    host.disk.fail_flush_at = 1
    with pytest.raises(StorageError):
        host.settle()
    assert [type(step) for step in host.disk.steps] == [Write, Flush]

    again = Host(host.disk.copy())
    fill(again, range(2), b"a")
    again.disk.steps.clear()
    checkpoint = again.checkpoint(64)
    assert written_bytes(again.disk) <= 8192, "the chunks are shared with what was found"
    again.put(SuperblockWrite(1, image(1, checkpoint)))
    last = Host(again.disk.after_power_cut(lambda _: False))
    assert last.shelf.state == state
