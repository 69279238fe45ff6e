"""Space is freed only of what certainly nobody needs, in packs and in the log (R-GC)."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.storage.application import Host, State
from tests.storage.crash_disk import CrashDisk, PowerCutError, survivals
from tests.storage.fixtures import INCARNATION, SEGMENT_SIZE, append, chain, formatted, image, open_journal, opened
from trio_pb.core.messages import CheckpointId
from trio_pb.core.ports import CheckpointDone, Collect, SuperblockWrite, WalRead, WalReadDone
from trio_pb.storage import checkpoints
from trio_pb.storage.disk import Remove, Write, run
from trio_pb.storage.journal import Journal, Segment
from trio_pb.storage.store import Store


def checkpoint_of(host: Host, op: int, places: range, content: bytes) -> CheckpointId:
    """Change these places and write a checkpoint."""
    for place in places:
        host.shelf.put(place, bytes([place]) + content * 300)
    return host.checkpoint(op)


def loads(host: Host, checkpoint: CheckpointId) -> bool:
    """Whether all of a checkpoint is there."""
    return [type(it).__name__ for it in host.install(checkpoint)] == ["Installed"]


def test_packs_without_live_chunks_are_removed() -> None:
    """What only a forgotten checkpoint named goes; what a kept one names stays."""
    host = Host(formatted())
    first = checkpoint_of(host, 1, range(40), b"abc")
    packs = host.packs
    second = checkpoint_of(host, 2, range(40), b"def")
    host.put(Collect(0, (first, second)))
    assert set(packs) <= set(host.packs)
    host.put(Collect(0, (second,)))
    assert not set(packs) & set(host.packs)
    assert loads(host, second)
    assert not loads(host, first)


def test_packs_with_little_life_are_compacted() -> None:
    """A few old chunks do not keep whole packs: at most about twice the live bytes are on disk."""
    host = Host(formatted())
    last = checkpoint_of(host, 1, range(60), b"abc")
    for op in range(2, 12):
        last = checkpoint_of(host, op, range(op % 3, 60, 3), bytes([op]) * 3)
        host.put(Collect(0, (last,)))
        size = sum(len(host.disk.cache[name]) for name in host.packs)
        assert size < 2.5 * 60 * 1024 + 4 * 4096
        assert loads(host, last)
    again = Host(host.disk)
    assert loads(again, last)


def test_many_small_packs_are_merged() -> None:
    """Checkpoints with one change each do not end in one file each."""
    host = Host(formatted(), pack_size=1 << 20)
    last = checkpoint_of(host, 1, range(30), b"abc")
    for op in range(2, 32):
        last = checkpoint_of(host, op, range(op - 2, op - 1), bytes([op]) * 3)
        host.put(Collect(0, (last,)))
    assert len(host.packs) <= 11
    assert loads(host, last)


def test_compaction_goes_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """One job rewrites one slice, and the old pack goes only after the last of them."""
    host = Host(formatted(), pack_size=1 << 20)
    checkpoint_of(host, 1, range(100), b"abc")
    [old] = host.packs
    last = checkpoint_of(host, 2, range(70), b"def")
    monkeypatch.setattr(checkpoints, "SLICE_BYTES", 5000)
    host.store.put(Collect(0, (last,)))
    sizes: list[int] = []
    while True:
        assert old in host.packs
        host.disk.steps.clear()
        assert host.run_job()
        written = [step for step in host.disk.steps if isinstance(step, Write)]
        if any(isinstance(step, Remove) for step in host.disk.steps):
            break
        sizes += [len(step.data) for step in written]
    assert len([size for size in sizes if size]) >= 5
    assert max(sizes) <= 8192
    host.settle()
    assert loads(host, last)


@pytest.mark.parametrize("what", ["manifest", "chunk"])
def test_nothing_is_removed_on_ignorance(what: str) -> None:
    """While something that is kept cannot be read, every pack stays."""
    host = Host(formatted())
    kept = checkpoint_of(host, 1, range(40), b"abc")
    last = checkpoint_of(host, 2, range(40), b"def")
    if what == "manifest":
        for name in host.packs:
            host.disk.cache[name][:] = host.disk.cache[name].replace(kept.digest, b"?" * 32)
    else:
        host.disk.cache[host.packs[0]][140] ^= 1
    again = Host(host.disk)
    packs = again.packs
    again.put(Collect(0, (kept, last)))
    assert again.packs == packs
    again.put(Collect(0, (last,)))
    assert len(again.packs) < len(packs), "what is damaged is not kept any more"
    assert loads(again, last)


def test_checkpoint_never_seen_keeps_all_packs() -> None:
    """The core names a checkpoint that is not here: what it shares with ours is unknown."""
    host = Host(formatted())
    checkpoint_of(host, 1, range(40), b"abc")
    last = checkpoint_of(host, 2, range(40), b"def")
    packs = host.packs
    host.put(Collect(0, (last, CheckpointId(3, b"?" * 32))))
    assert host.packs == packs


def test_collecting_while_a_checkpoint_is_written() -> None:
    """Chunks that the new checkpoint shares with a forgotten one stay, at whatever moment garbage is collected."""
    for moment in range(12):
        host = Host(formatted())
        checkpoint_of(host, 1, range(20), b"abc")
        second = checkpoint_of(host, 2, range(10, 30), b"def")
        for place in range(10, 20):
            host.shelf.put(place, bytes([place]) + b"abc" * 300)  # As in the first one: known to nobody, but on disk.
        host.begin(3)
        for _ in range(moment):
            host.advance()
            host.run_job()
        host.put(Collect(0, (second,)))
        [third] = [it.id for it in host.told if isinstance(it, CheckpointDone) and it.id.op == 3]
        state: State = dict(host.shelf.state)
        assert loads(host, third), moment
        host.adopt(third)
        assert host.shelf.state == state


# --- The log --------------------------------------------------------------------------------------


def log_of(disk: CrashDisk) -> list[str]:
    """The segment files."""
    return sorted(name.removeprefix("log/") for name in disk.cache if name.startswith("log/0"))


def with_records(count: int) -> tuple[CrashDisk, Store]:
    """Return an open store with the records of this many ops, eight in each segment."""
    disk = formatted()
    store, _ = opened(disk)
    for prepare in chain(count):
        store.put(append(prepare))
        finish(disk, store)
    return disk, store


def finish(disk: CrashDisk, store: Store) -> list[object]:
    """Run all jobs."""
    done: list[object] = []
    while (job := store.take()) is not None:
        done += run(disk, job)
    return done


@pytest.mark.parametrize(("wal_low", "kept"), [(0, 4), (8, 4), (9, 3), (16, 3), (17, 2), (1000, 1)])
def test_segments_below_the_low_mark_are_removed(wal_low: int, kept: int) -> None:
    """A segment goes when all its ops are below; the one in use never; the bag forgets, before and after a restart."""
    prepares = chain(28)
    disk, store = with_records(28)
    segments = log_of(disk)
    assert len(segments) == 4
    store.put(Collect(wal_low, ()))
    finish(disk, store)
    removed = 4 - kept
    assert log_of(disk) == segments[removed:]
    gone, first = prepares[: 8 * removed][-1:], prepares[8 * removed]
    for prepare in gone:
        store.put(WalRead(prepare.id))
        assert finish(disk, store) == [WalReadDone(prepare.id, None)]
    if removed < 3:
        store.put(WalRead(first.id))
        assert finish(disk, store) == [WalReadDone(first.id, first)]
    _, start = opened(disk)
    assert min(record.op for record in start.scan.records) == 8 * removed + 1


def test_segments_of_earlier_boots_are_removed_and_never_the_last() -> None:
    """After a restart the same; an unreadable segment waits for the next readable one to be old."""
    disk, _ = with_records(28)
    segments = log_of(disk)
    disk.cache[f"log/{segments[0]}"][:] = b"\xa5" * SEGMENT_SIZE
    store, _ = opened(disk)
    store.put(Collect(16, ()))
    finish(disk, store)
    assert segments[0] in log_of(disk)
    store.put(Collect(17, ()))
    finish(disk, store)
    assert segments[0] not in log_of(disk)
    store.put(Collect(1 << 40, ()))
    finish(disk, store)
    assert len(log_of(disk)) == 1
    assert opened(disk)[1].scan.has_log


def test_superseded_records_do_not_free_a_segment() -> None:
    """Only ops count: a copy elsewhere is no reason to remove the first one."""
    disk = formatted()
    journal = Journal(INCARNATION, SEGMENT_SIZE)
    run(disk, open_journal(journal, 1))
    prepares = chain(7)
    for _ in range(3):
        run(disk, journal.append(prepares))
    assert journal.oldest_below(7) is None
    assert journal.oldest_below(8) == Segment(1, 1)


def test_certified_checkpoint_that_comes_later_sets_collection_free() -> None:
    """A slow replica is told to keep what others certified: once its own is written, garbage goes."""
    host = Host(formatted())
    first = checkpoint_of(host, 1, range(40), b"abc")
    packs = host.packs
    other = Host(formatted())
    checkpoint_of(other, 2, range(40), b"def")
    certified = other.checkpoint(2)
    host.put(Collect(0, (certified,)))
    assert host.packs == packs
    assert checkpoint_of(host, 2, range(40), b"def") == certified
    assert not set(packs) & set(host.packs)
    assert loads(host, certified)
    assert not loads(host, first)


def test_crash_at_every_step_of_collecting_keeps_what_is_not_below() -> None:
    """Cut the power anywhere while segments are removed: records at and above the low mark stay."""
    for cut in range(8):
        for survives in survivals():
            disk, store = with_records(28)
            store.put(Collect(17, ()))
            disk.steps.clear()
            disk.cut_at = cut
            with suppress(PowerCutError):
                finish(disk, store)
            _, start = opened(disk.after_power_cut(survives))
            assert {record.op for record in start.scan.records} >= set(range(17, 29))
            assert start.scan.has_log


def test_what_the_superblock_names_outlives_a_collect_that_does_not_know_it() -> None:
    """The order in which lanes come to their turns must not cost the live checkpoint."""
    host = Host(formatted())
    host.shelf.put(1, b"first" * 200)
    first = host.checkpoint(64)
    host.put(SuperblockWrite(1, image(1, first)))
    host.shelf.put(1, b"second" * 200)
    second = host.checkpoint(128)
    host.put(SuperblockWrite(2, image(2, second)))
    host.shelf.put(1, b"third" * 200)
    host.checkpoint(192)
    host.put(Collect(0, (first,)))
    again = Host(host.disk.after_power_cut(lambda _: True))
    assert again.start.checkpoint is not None
    assert again.start.checkpoint.op == 128
