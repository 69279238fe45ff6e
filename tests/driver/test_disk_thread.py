"""Group commit in a thread: completions come back, failures end the replica."""

from __future__ import annotations

import pytest
import trio

from tests.driver.fakes import FakeDisk, FakeStore
from trio_pb.core.ports import Input, SuperblockWrite, WalAppend, WalDone, WalRead
from trio_pb.driver.disk_thread import DiskThread, StorageWork
from trio_pb.driver.inbox import Inbox
from trio_pb.errors import ReplicaStoppedError, StorageError


def complete(output: StorageWork) -> Input:
    """Appends only, here."""
    assert isinstance(output, WalAppend)
    return WalDone(output.sequence)


def append(sequence: int) -> WalAppend:
    """An append of nothing."""
    return WalAppend(sequence, (), None)


async def test_completions_come_back_as_inputs() -> None:
    """Put, and some time later the inbox has it."""
    inbox = Inbox()
    thread = DiskThread(FakeStore(complete), FakeDisk(), inbox)
    thread.start()
    thread.put([append(1)])
    assert await inbox.take_all() == [WalDone(1)]
    assert await thread.close(5)


async def test_what_was_put_together_is_one_group_and_waits_for_the_running_one() -> None:
    """While a flush runs everything else gathers behind it."""
    inbox, disk = Inbox(), FakeDisk()
    store = FakeStore(complete)
    thread = DiskThread(store, disk, inbox)
    thread.start()
    disk.gate.clear()
    thread.put([append(1), append(2)])
    await trio.to_thread.run_sync(disk.waiting.wait)
    thread.put([append(3)])
    thread.put([append(4), append(5)])
    disk.gate.set()
    done: list[Input] = []
    while len(done) < 5:
        done += await inbox.take_all()
    assert done == [WalDone(n) for n in range(1, 6)]
    assert store.groups == [2, 3]
    assert len(disk.steps) == 2
    assert await thread.close(5)


async def test_a_failed_flush_stops_the_replica_with_the_cause_and_is_not_retried() -> None:
    """R-IOERR: one attempt, a clear message, no completion."""
    inbox, disk = Inbox(), FakeDisk()
    disk.fail("log/1: flush: EIO")
    thread = DiskThread(FakeStore(complete), disk, inbox)
    thread.start()
    thread.put([append(1)])
    with pytest.raises(ReplicaStoppedError, match="storage: log/1: flush: EIO") as caught:
        await inbox.take_all()
    assert caught.value.reason == "storage"
    assert isinstance(caught.value.__cause__, StorageError)
    thread.put([append(2)])
    assert await thread.close(5)
    assert len(disk.steps) == 1


async def test_a_bug_in_storage_code_is_not_hidden_in_the_thread() -> None:
    """Any exception arrives where the replica is owned."""
    inbox = Inbox()
    thread = DiskThread(FakeStore(complete), FakeDisk(), inbox)
    thread.start()
    thread.put([WalRead(id=None)])  # type: ignore[arg-type] # The store's own assert is what we are after.
    with pytest.raises(AssertionError):
        await inbox.take_all()
    assert await thread.close(5)


async def test_closing_ends_the_running_job_and_drops_the_rest() -> None:
    """Nothing starts after close was asked for."""
    inbox, disk = Inbox(), FakeDisk()
    store = FakeStore(complete)
    thread = DiskThread(store, disk, inbox)
    thread.start()
    disk.gate.clear()
    thread.put([append(1)])
    await trio.to_thread.run_sync(disk.waiting.wait)
    thread.put([append(2)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(thread.close, 5)
        await trio.testing.wait_all_tasks_blocked()
        disk.gate.set()
    assert store.groups == [1]


async def test_a_hanging_disk_does_not_keep_close_for_ever() -> None:
    """Close says that the thread is still there."""
    disk = FakeDisk()
    thread = DiskThread(FakeStore(complete), disk, Inbox())
    thread.start()
    disk.gate.clear()
    thread.put([append(1)])
    await trio.to_thread.run_sync(disk.waiting.wait)
    assert not await thread.close(0.01)
    disk.gate.set()
    assert await thread.close(5)


async def test_closing_a_thread_that_never_ran() -> None:
    """A start that failed half-way closes as well."""
    assert await DiskThread(FakeStore(complete), FakeDisk(), Inbox()).close(5)


def test_superblock_writes_are_storage_work() -> None:
    """The three storage outputs and no others."""
    assert set(StorageWork.__args__) == {WalAppend, SuperblockWrite, WalRead}
