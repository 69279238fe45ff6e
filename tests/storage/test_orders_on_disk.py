"""The order service on real files: its checkpoints come back, here and on another replica (PROTOCOL 8.2, 9)."""

from __future__ import annotations

from pathlib import Path

from tests.storage.application import core_state
from tests.storage.fixtures import CLUSTER, INCARNATION, SEGMENT_SIZE, image
from trio_pb.app.orders import PLACE, Orders, PlaceOrder, encode_place
from trio_pb.core.messages import CheckpointId
from trio_pb.core.ports import (
    Adopt,
    CheckpointBegin,
    CheckpointDone,
    ChunkPut,
    ChunkRead,
    ChunkReadDone,
    ChunkStored,
    Collect,
    Input,
    Install,
    Installed,
    Scrub,
    Scrubbed,
    Start,
    SuperblockWrite,
    SyncBegin,
    SyncState,
)
from trio_pb.driver.file_disk import FileDisk
from trio_pb.storage.checkpointer import Checkpointer
from trio_pb.storage.disk import run
from trio_pb.storage.store import Store, format_directory
from trio_pb.storage.work import Work


class Boot:
    """One boot of a replica's storage with the order service above it."""

    def __init__(self, directory: Path, *, is_new: bool = False) -> None:
        self.disk = FileDisk(directory, create=is_new)
        if is_new:
            job = format_directory(
                cluster=CLUSTER, replica=0, incarnation=INCARNATION, voters=(0, 1, 2), segment_size=SEGMENT_SIZE
            )
            run(self.disk, job)
        self.orders = Orders()
        self.store = Store(segment_size=SEGMENT_SIZE)
        self.start: Start = run(self.disk, self.store.open(self.orders))
        self.checkpointer = Checkpointer(self.orders)

    def place(self, customers: range, number: int) -> None:
        """Place one order for each of these customers."""
        op = self.orders.op + 1
        items = [
            (index, b"c" * 16, PLACE, encode_place(PlaceOrder(customer, number, "x1")))
            for index, customer in enumerate(customers)
        ]
        self.orders.apply(op, op * 1000, items)

    def do(self, *work: Work) -> list[Input]:
        """Give work to the store and settle."""
        for item in work:
            self.store.put(item)
        told: list[Input] = []
        while True:
            if self.checkpointer.is_due:
                new_work, inputs = self.checkpointer.advance(1 << 18)
                told += inputs
                for item in new_work:
                    self.store.put(item)
            job = self.store.take()
            if job is not None:
                told += self.checkpointer.sift(run(self.disk, job))
            elif not self.checkpointer.is_due:
                return told

    def checkpoint(self) -> CheckpointId:
        """Write a checkpoint and make it live."""
        op = self.orders.op
        self.checkpointer.begin(CheckpointBegin(CLUSTER, core_state(op)))
        [done] = self.do()
        assert isinstance(done, CheckpointDone)
        self.do(SuperblockWrite(op, image(op, done.id)), Collect(0, (done.id,)))
        return done.id


def test_orders_survive_a_restart_and_move_to_another_replica(tmp_path: Path) -> None:
    """Checkpoint after checkpoint, a restart, the rest of the way by a transfer: always the same state."""
    ours = Boot(tmp_path / "ours", is_new=True)
    ours.place(range(2000), 1)
    ours.checkpoint()
    ours.place(range(600), 2)
    ours.checkpoint()
    ours.place(range(300), 3)
    checkpoint = ours.checkpoint()
    digest = ours.orders.digest()
    ours.disk.close()

    again = Boot(tmp_path / "ours")
    assert again.start.checkpoint == core_state(3)
    assert (again.orders.op, again.orders.digest()) == (3, digest)
    assert again.do(Scrub()) == [Scrubbed()]

    theirs = Boot(tmp_path / "theirs", is_new=True)
    theirs.place(range(50), 1)
    [manifest] = again.do(ChunkRead(1, checkpoint.digest, 0, 1 << 20))
    assert isinstance(manifest, ChunkReadDone)
    [state] = theirs.do(SyncBegin(checkpoint, manifest.data or b""))
    assert isinstance(state, SyncState)
    missing = state.missing or ()
    pieces = again.do(*[ChunkRead(1, chunk.digest, 0, chunk.size) for chunk in missing])
    puts = [ChunkPut(piece.digest, piece.data or b"") for piece in pieces if isinstance(piece, ChunkReadDone)]
    assert theirs.do(*puts) == [ChunkStored(chunk.digest) for chunk in missing]
    theirs.checkpointer.install(Install(checkpoint))
    assert theirs.do() == [Installed(checkpoint, core_state(3))]
    theirs.checkpointer.adopt(Adopt(checkpoint))
    assert theirs.orders.digest() == digest

    for boot in (again, theirs):
        boot.place(range(100), 9)
    assert again.checkpoint() == theirs.checkpoint(), "equal from now on, though their disks differ"
    again.disk.close()
    theirs.disk.close()
