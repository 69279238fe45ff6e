"""What a state transfer moves, between two real directories, and how long its installation holds up the loop."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import attrs

from trio_pb.app.orders import PLACE, PlaceOrder, encode_place
from trio_pb.core.config import Limits
from trio_pb.core.manifest import Chunk
from trio_pb.core.messages import CheckpointId
from trio_pb.core.ports import (
    Adopt,
    ChunkPut,
    ChunkRead,
    ChunkReadDone,
    Input,
    Install,
    Installed,
    Start,
    SyncBegin,
    SyncState,
)
from trio_pb.driver.collector import spare_the_loop
from trio_pb.driver.host import SLICE_BYTES
from trio_pb.storage.disk import run
from trio_pb.storage.store import Store
from trio_pb.storage.work import Completion, Work
from trio_pb.testbed.bench.children import Tell
from trio_pb.testbed.bench.figures import TransferFigures
from trio_pb.testbed.bench.meter import CountingDisk, Meter, TimedCheckpointer, TimedOrders, watched_collector
from trio_pb.testbed.formatting import format_replica

__all__ = ["measure_transfer"]

RECEIVER = 1
LACKING = 100  # The receiver lacks one of so many chunks.
GROUP = 64  # Chunks put at a time.
OPS_AFTER = 256  # Enough to free all of the state that was replaced.


@attrs.define
class _Side:
    """One directory and the store on it."""

    disk: CountingDisk
    store: Store
    start: Start

    def do(self, works: Iterable[Work]) -> list[Completion]:
        """Have work done to its end."""
        for work in works:
            self.store.put(work)
        done: list[Completion] = []
        while (job := self.store.take()) is not None:
            done += run(self.disk, job)
        return done


@contextmanager
def _opened(directory: Path, machine: TimedOrders | None = None) -> Generator[_Side]:
    with CountingDisk(directory) as disk:
        store = Store()
        yield _Side(disk, store, run(disk, store.open(machine)))


class _Donor:
    """Serves pieces as `core.state_transfer` does, and counts their bytes."""

    def __init__(self, side: _Side) -> None:
        self._side = side
        self._piece_max = Limits().chunk_piece_max
        self.moved_bytes = 0

    def fetch(self, digest: bytes) -> bytes:
        """Return a chunk or manifest, read piece by piece."""
        data = bytearray()
        while True:
            (done,) = self._side.do([ChunkRead(RECEIVER, digest, len(data), self._piece_max)])
            assert isinstance(done, ChunkReadDone)
            assert done.data is not None, "the donor's own checkpoint is whole"
            data += done.data
            self.moved_bytes += len(done.data)
            if len(data) == done.total:
                return bytes(data)


def measure_transfer(tell: Tell, donor_directory: Path, receiver_directory: Path) -> TransferFigures:
    """Copy a checkpoint but for some chunks, copy these after a restart, then install it over a full state."""
    meter = Meter()
    machine = TimedOrders(meter)
    with _opened(donor_directory, machine) as donor_side:
        image = donor_side.start.superblock
        target = image.checkpoint
        format_replica(receiver_directory, cluster=image.cluster, replica=RECEIVER, members=(0, RECEIVER))
        donor = _Donor(donor_side)
        with _opened(receiver_directory) as receiver:
            missing = _begin(receiver, target, donor)
            lacking = set(missing[LACKING // 2 :: LACKING])
            _fetch(receiver, donor, [chunk for chunk in missing if chunk not in lacking], tell)
        first_bytes, donor.moved_bytes = donor.moved_bytes, 0
        with _opened(receiver_directory) as receiver:
            left = _begin(receiver, target, donor)
            manifest_bytes = donor.moved_bytes
            assert set(left) == lacking, "what was put is there, and nothing else"
            _fetch(receiver, donor, left, tell)
            spare_the_loop()
            began = perf_counter()
            with watched_collector(meter):
                _install(receiver, machine, meter, target)
            install_seconds = perf_counter() - began
    return TransferFigures(
        chunks=len(missing),
        lacking=len(lacking),
        full_bytes=first_bytes + donor.moved_bytes - manifest_bytes,
        moved_bytes=donor.moved_bytes,
        install_seconds=install_seconds,
        steps=meter.sums(),
    )


def _begin(receiver: _Side, target: CheckpointId, donor: _Donor) -> tuple[Chunk, ...]:
    """Bring the manifest; return what the receiver lacks."""
    (listed,) = receiver.do([SyncBegin(target, donor.fetch(target.digest))])
    assert isinstance(listed, SyncState)
    assert listed.missing is not None, "what the donor calls its checkpoint is one"
    return listed.missing


def _fetch(receiver: _Side, donor: _Donor, chunks: Sequence[Chunk], tell: Tell) -> None:
    for first in range(0, len(chunks), GROUP):
        tell(first, len(chunks))
        group = chunks[first : first + GROUP]
        receiver.do([ChunkPut(chunk.digest, donor.fetch(chunk.digest)) for chunk in group])


def _install(receiver: _Side, machine: TimedOrders, meter: Meter, target: CheckpointId) -> None:
    """Decode the checkpoint beside the state that is there, adopt it, and go on."""
    checkpointer = TimedCheckpointer(machine, meter, receiver.disk)
    checkpointer.install(Install(target))
    inputs: list[Input] = []
    while checkpointer.is_due:
        work, told = checkpointer.advance(SLICE_BYTES)
        inputs += told
        inputs += checkpointer.sift(receiver.do(work))
    (installed,) = inputs
    assert isinstance(installed, Installed)
    checkpointer.adopt(Adopt(target))
    for op in range(target.op + 1, target.op + 1 + OPS_AFTER):
        body = encode_place(PlaceOrder(op, op << 32, "laptop"))
        with meter.step("apply_after_adopt"):
            machine.apply(op, op, [(0, bytes(16), PLACE, body)])
