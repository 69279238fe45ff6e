"""The store as the core sees it: nothing that was completed is lost, wherever the power goes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.choices import Choices
from sim.disk import FakeDisk, Place
from tests.storage.crash_disk import CrashDisk, PowerCutError, Survival, survivals
from tests.storage.fixtures import (
    CLUSTER,
    INCARNATION,
    SEGMENT_SIZE,
    append,
    chain,
    formatted,
    image,
    opened,
    proof_for,
)
from trio_pb.core.ports import (
    Space,
    SpaceCheck,
    Start,
    SuperblockDone,
    SuperblockWrite,
    WalAppend,
    WalDone,
    WalRead,
    WalReadDone,
)
from trio_pb.core.prepare import PrepareId
from trio_pb.errors import StorageError
from trio_pb.storage.disk import Flush, Job, Write, run
from trio_pb.storage.journal import SPARE_FILE, Segment
from trio_pb.storage.store import READ_BYTES_PER_JOB, Store, format_directory
from trio_pb.storage.work import Completion

PREPARES = chain(12)


def finish(store: Store, disk: CrashDisk) -> list[Completion]:
    """Run all jobs until nothing is left to do; return the completions."""
    done: list[Completion] = []
    while (job := store.take()) is not None:
        done += run(disk, job)
    return done


def test_first_opening_shows_what_format_wrote() -> None:
    """A fresh directory: boot 0, view 0, the genesis, a proof of nothing, an empty log."""
    _, start = opened(formatted())
    assert (start.superblock.boot, start.superblock.view, start.superblock.born) == (0, 0, False)
    assert start.superblock.configuration.voters == (0, 1, 2)
    assert start.scan.proof is not None
    assert (start.scan.proof.sequence, start.scan.proof.acked) == (0, 0)
    assert start.scan.has_log
    assert start.scan.records == ()


def test_group_commit_orders_records_before_the_latest_proof() -> None:
    """All queued records in one write, flush, then only the newest proof, flush, one completion (R-STORE)."""
    disk = formatted()
    store, _ = opened(disk)
    for prepare in PREPARES[:3]:
        store.put(append(prepare))
    store.put(append(PREPARES[3], proven=False))
    disk.steps.clear()
    job = store.take()
    assert job is not None
    assert run(disk, job) == (WalDone(4),)
    assert [(type(step).__name__, getattr(step, "file", "")) for step in disk.steps[:5]] == [
        ("Write", Segment(1, 1).file),
        ("Flush", Segment(1, 1).file),
        ("Write", "proofs"),
        ("Write", "proofs"),
        ("Flush", "proofs"),
    ]
    _, start = opened(disk)
    assert start.scan.proof == proof_for(PREPARES[2])


def test_append_without_proof_is_one_flush() -> None:
    """With no proof the first flush completes the append (R-STORE)."""
    disk = formatted()
    store, _ = opened(disk)
    store.put(append(PREPARES[0], proven=False))
    disk.steps.clear()
    job = store.take()
    assert job is not None
    assert run(disk, job) == (WalDone(1),)
    assert [type(step) for step in disk.steps] == [Write, Flush]


def test_proof_without_records_is_written() -> None:
    """The watermark may rise with nothing to append (R-PROOF)."""
    disk = formatted()
    store, _ = opened(disk)
    store.put(append(PREPARES[0], proven=False))
    finish(store, disk)
    store.put(WalAppend(2, (), proof_for(PREPARES[0])))
    assert finish(store, disk) == [WalDone(2)]
    assert opened(disk)[1].scan.proof == proof_for(PREPARES[0])


def test_reads_are_answered_in_order_and_in_portions() -> None:
    """A job reads at most about 1 MiB, so that repair does not hold up appends; nothing is forgotten."""
    disk = formatted()
    store, _ = opened(disk)
    large = chain(5, body_size=READ_BYTES_PER_JOB // 3)
    for prepare in large:
        store.put(append(prepare))
    finish(store, disk)
    missing = PrepareId(99, b"?" * 16)
    store.put(WalRead(missing))
    for prepare in large:
        store.put(WalRead(prepare.id))
    job = store.take()
    assert job is not None
    first = run(disk, job)
    assert first == (WalReadDone(missing, None), *(WalReadDone(it.id, it) for it in large[:2]))
    assert finish(store, disk) == [WalReadDone(prepare.id, prepare) for prepare in large[2:]]


def test_superblock_images_coalesce_and_complete() -> None:
    """Of several queued images the newest is written and completed."""
    disk = formatted()
    store, _ = opened(disk)
    store.put(SuperblockWrite(1, image(1)))
    store.put(SuperblockWrite(2, image(2)))
    assert finish(store, disk) == [SuperblockDone(2)]
    assert opened(disk)[1].superblock == image(2)


def test_store_that_failed_does_nothing_more() -> None:
    """After a failed flush no job is handed out, so nothing is retried or acknowledged (R-IOERR, T-12)."""
    disk = formatted()
    store, _ = opened(disk)
    store.put(append(PREPARES[0]))
    disk.steps.clear()
    disk.fail_flush_at = 1
    job = store.take()
    assert job is not None
    with pytest.raises(StorageError):
        run(disk, job)
    with pytest.raises(AssertionError, match="R-IOERR"):
        store.take()


def test_one_job_at_a_time() -> None:
    """A second job while one is out would break the order of group commit."""
    store, _ = opened(formatted())
    store.put(append(PREPARES[0]))
    assert store.take() is not None
    store.put(append(PREPARES[1]))
    with pytest.raises(AssertionError, match="one job at a time"):
        store.take()


def test_opening_heals_the_superblock_before_any_other_write() -> None:
    """No byte of another file changes before all four copies agree (T-35)."""
    disk = formatted()
    store, _ = opened(disk)
    store.put(SuperblockWrite(1, image(1)))
    job = store.take()
    assert job is not None
    disk.run_until_cut(job, 4)  # In phase 2.
    disk = disk.after_power_cut(lambda index: index % 2 == 0)
    opened(disk)
    writes = [step for step in disk.steps if not hasattr(step, "size") and not hasattr(step, "folder")]
    # The log's flushes change no byte of it, and a record binds nobody without a proof.
    others = [
        index
        for index, step in enumerate(writes)
        if getattr(step, "file", "") != "superblock" and not (isinstance(step, Flush) and step.file.startswith("log/"))
    ]
    healed = [index for index, step in enumerate(writes) if getattr(step, "file", "") == "superblock"]
    assert max(healed) < min(others)
    assert isinstance(writes[max(healed)], Flush)


def test_files_that_are_lost_show_as_amnesia() -> None:
    """Without the proof file there is no proof; without the log folder no log, until something is appended."""
    disk = formatted()
    del disk.cache["proofs"]
    assert opened(disk)[1].scan.proof is None
    disk = formatted()
    del disk.cache[Segment(1, 0).file]
    assert not opened(disk)[1].scan.has_log
    store, start = opened(disk)
    assert not start.scan.has_log
    store.put(append(PREPARES[0]))
    finish(store, disk)
    assert opened(disk)[1].scan.has_log


def test_log_that_was_lost_is_one_again_with_the_next_proof() -> None:
    """What its replica is bound to then, the proof says: the next start must not find an amnesiac once more."""
    disk = formatted()
    del disk.cache[Segment(1, 0).file]
    store, _ = opened(disk)
    assert not opened(disk)[1].scan.has_log
    store.put(WalAppend(1, (), proof_for(PREPARES[0])))
    disk.steps.clear()
    assert finish(store, disk) == [WalDone(1)]
    assert [step.file for step in disk.steps if isinstance(step, Flush)][-1] == "proofs"
    assert opened(disk)[1].scan.has_log


def test_lost_log_waits_for_room_before_anything_is_proven() -> None:
    """A proof beside no log would be of no use: it is written when there is room for both."""
    disk = formatted()
    del disk.cache[Segment(1, 0).file]
    store, _ = opened(disk)
    disk.full_from = disk.growths
    store.put(WalAppend(1, (), proof_for(PREPARES[0])))
    assert finish(store, disk) == [Space(is_full=True)]
    assert not opened(disk)[1].scan.has_log
    disk.full_from = None
    store.put(SpaceCheck())
    assert WalDone(1) in finish(store, disk)
    assert opened(disk)[1].scan.has_log


@pytest.mark.parametrize("fails", [False, True])
def test_record_that_only_a_cache_holds_is_not_found(*, fails: bool) -> None:
    """A copy of an acknowledged record that was written and not flushed is durable when found, or not found (T-12)."""
    disk = FakeDisk(0, Choices(0, {}))
    run(
        disk,
        format_directory(
            cluster=CLUSTER, replica=0, incarnation=INCARNATION, voters=(0, 1, 2), segment_size=SEGMENT_SIZE
        ),
    )
    store, _ = opened(disk)
    disk.divert = lambda _: Place(None, 0)  # The record of op 1 is lost; its proof says that it was acknowledged.
    run(disk, job_for(store, append(PREPARES[0], proven=False)))
    disk.divert = None
    run(disk, job_for(store, WalAppend(2, (), proof_for(PREPARES[0]))))
    again = job_for(store, append(PREPARES[0], proven=False))
    if fails:
        disk.fail_after = 1  # The flush: the cache shows the record as clean from then on.
        with pytest.raises(StorageError):
            run(disk, again)
    else:
        disk.do(next(again))  # The write, and no flush.
    disk.crash_process()
    found = opened(disk)[1].scan
    assert found.proof == proof_for(PREPARES[0])
    assert bool(found.records) is not fails
    disk.cut_power()
    assert opened(disk)[1].scan.records == found.records


def job_for(store: Store, work: WalAppend) -> Job[tuple[Completion, ...]]:
    """Return the job that an append becomes."""
    store.put(work)
    job = store.take()
    assert job is not None
    return job


class Promises:
    """What the completions given so far bind the storage to, and what was asked for."""

    def __init__(self) -> None:
        self.appended = 0  # Highest op with its completion.
        self.asked = 0
        self.view = 0
        self.view_asked = 0

    def take(self, completions: tuple[Completion, ...]) -> None:
        """Note completions; sequences are ops and views here."""
        for completion in completions:
            if isinstance(completion, WalDone):
                self.appended = completion.sequence
            elif isinstance(completion, SuperblockDone):
                self.view = completion.sequence

    def check(self, start: Start) -> None:
        """Assert that a reopened store kept them all, and claims nothing that was not asked for."""
        ops = {record.op for record in start.scan.records}
        assert set(range(1, self.appended + 1)) <= ops
        assert start.scan.proof is not None
        # A crash leaves a proof only with all its records: the barrier of R-STORE, so that a torn tail
        # is never taken for damage (T-14).
        assert self.appended <= start.scan.proof.acked <= self.asked
        assert set(range(1, start.scan.proof.acked + 1)) <= ops
        assert self.view <= start.superblock.view <= self.view_asked


GROUPS: list[list[int]] = [[1], [2, 3, 4], [5], [-1], [6, -2, 7], [8, 9, 10, 11], [-3], [12]]


def run_script(disk: CrashDisk, store: Store, promises: Promises) -> None:
    """Append groups of ops (positive) and write superblocks with views (negative); one group is one job."""
    for group in GROUPS:
        for item in group:
            if item > 0:
                store.put(append(PREPARES[item - 1]))
                promises.asked = item
            else:
                store.put(SuperblockWrite(-item, image(-item)))
                promises.view_asked = -item
        while (job := store.take()) is not None:
            promises.take(run(disk, job))


def count_steps() -> int:
    """Return how many steps the script takes without a crash."""
    disk = formatted()
    store, _ = opened(disk)
    disk.steps.clear()
    promises = Promises()
    run_script(disk, store, promises)
    assert (promises.appended, promises.view) == (12, 3)
    return len(disk.steps)


def crash_in_script(cut: int, survives: Survival) -> tuple[CrashDisk, Promises]:
    """Run the script until the power goes at step `cut`; return the disk after it, and the promises."""
    disk = formatted()
    store, _ = opened(disk)
    disk.steps.clear()
    disk.cut_at = cut
    promises = Promises()
    with pytest.raises(PowerCutError):
        run_script(disk, store, promises)
    return disk.after_power_cut(survives), promises


def test_crash_at_every_step_keeps_what_was_completed() -> None:
    """Cut the power before or in every step of a long run, tear what was unflushed: no completed thing is lost."""
    steps = count_steps()
    assert steps > 60
    for cut in range(steps):
        for survives in survivals():
            disk, promises = crash_in_script(cut, survives)
            _, start = opened(disk)
            promises.check(start)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_crash_after_crash_keeps_what_was_seen(data: st.DataObject) -> None:
    """Crash in the run, crash while reopening, again and again: nothing completed or ever shown is taken back."""
    outcomes = survivals()
    disk, promises = crash_in_script(data.draw(st.integers(0, count_steps() - 1)), data.draw(st.sampled_from(outcomes)))
    for _ in range(data.draw(st.integers(1, 4))):
        cut = data.draw(st.integers(0, 80))
        start = disk.run_until_cut(Store(segment_size=SEGMENT_SIZE).open(), cut)
        if start is not None:
            promises.check(start)
            assert start.scan.proof is not None
            promises.view = start.superblock.view  # Acted upon from now on.
            promises.appended = start.scan.proof.acked
        disk = disk.after_power_cut(data.draw(st.sampled_from(outcomes)))
    promises.check(opened(disk)[1])


def test_restart_of_the_process_alone_keeps_the_cache() -> None:
    """A kill without a power cut shows every write, flushed or not, and loses nothing later completed."""
    disk = formatted()
    store, _ = opened(disk)
    store.put(append(PREPARES[0]))
    job = store.take()
    assert job is not None
    disk.run_until_cut(job, 1)  # Written, not flushed.
    store, start = opened(disk.copy())
    assert [record.op for record in start.scan.records] == [1]
    assert start.scan.proof is not None
    assert start.scan.proof.acked == 0


def test_spare_left_by_a_crash_is_harmless() -> None:
    """A half-filled next segment is thrown away at the next boot."""
    disk = formatted()
    store, _ = opened(disk)
    store.put(append(PREPARES[0]))
    finish(store, disk)
    assert SPARE_FILE in disk.cache
    _, start = opened(disk)
    assert SPARE_FILE not in disk.cache
    assert [record.op for record in start.scan.records] == [1]
