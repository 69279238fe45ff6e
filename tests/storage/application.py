"""A small application, and a host that has it, a store and a checkpointer, over one boot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.storage.crash_disk import CrashDisk
from tests.storage.fixtures import CLUSTER, SEGMENT_SIZE, image
from trio_pb.core.manifest import CoreState, KeptReply, SessionRow, chunk_digest
from trio_pb.core.messages import CheckpointId, Configuration
from trio_pb.core.ports import Adopt, CheckpointBegin, CheckpointDone, Collect, Input, Install, SuperblockWrite
from trio_pb.errors import RemoteProtocolError
from trio_pb.storage.checkpointer import Checkpointer
from trio_pb.storage.disk import run
from trio_pb.storage.store import Store
from trio_pb.storage.work import Completion, Work

PACK_SIZE = 16 * 1024

State = dict[int, bytes]  # Chunk by place.


class Shelf:
    """An application that holds one piece of bytes per place. Chunks start with a mark; others are malformed."""

    def __init__(self) -> None:
        self.state: State = {}
        self.digests: dict[int, tuple[bytes, int]] = {}  # Of the chunks that did not change since encoded.
        self.frozen = 0  # Frozen states that were not released.
        self.op = 0  # Of the state adopted last.
        self.encoded = 0  # Chunks encoded so far.

    def put(self, place: int, data: bytes) -> None:
        """Change one place."""
        self.state[place] = data
        self.digests.pop(place, None)

    def freeze(self) -> FrozenShelf:
        """Return the present state."""
        self.frozen += 1
        return FrozenShelf(self, dict(self.state), dict(self.digests))

    def restoring(self) -> RestoringShelf:
        """Return an empty state."""
        return RestoringShelf()

    def adopt(self, restoring: RestoringShelf, op: int) -> None:
        """Take over a restored state."""
        assert restoring.is_finished
        self.op = op
        self.state = restoring.state
        self.digests = {}


class FrozenShelf:
    """A copy of the state."""

    def __init__(self, shelf: Shelf, state: State, digests: dict[int, tuple[bytes, int]]) -> None:
        self._shelf = shelf
        self._state = state
        self._digests = digests

    @property
    def places(self) -> Sequence[int]:
        """Rising, without empty chunks."""
        return sorted(self._state)

    def known(self, place: int) -> tuple[bytes, int] | None:
        """Digest and size, if unchanged."""
        return self._digests.get(place)

    def encode(self, place: int) -> bytes:
        """One chunk."""
        self._shelf.encoded += 1
        data = encode_place(self._state[place])
        self._digests[place] = (chunk_digest(data), len(data))
        if self._shelf.state.get(place) == self._state[place]:
            self._shelf.digests[place] = self._digests[place]
        return data

    def release(self) -> None:
        """Let go."""
        self._shelf.frozen -= 1


class RestoringShelf:
    """A state being filled."""

    def __init__(self) -> None:
        self.state: State = {}
        self.is_finished = False

    def put(self, place: int, data: bytes) -> None:
        """Decode one chunk."""
        if not data.startswith(b"S"):
            raise RemoteProtocolError("not a piece of a shelf")
        self.state[place] = data[1:]

    def finish(self) -> None:
        """Check that it is not the state that never is."""
        if self.state.get(0) == b"half":
            raise RemoteProtocolError("half a shelf")
        self.is_finished = True


def encode_place(data: bytes) -> bytes:
    """Return the chunk of one place."""
    return b"S" + data


def encode_malformed(data: bytes) -> bytes:
    """Return what no shelf takes for a chunk."""
    return b"X" + data


def core_state(op: int, sessions: int = 3) -> CoreState:
    """Return what the core has at `op`."""
    reply = KeptReply(1, op, op * 1000, b"done")
    rows = tuple(SessionRow(bytes([number]) * 16, number, 1, op, reply, (reply,)) for number in range(1, sessions + 1))
    return CoreState(
        op=op,
        checksum=op.to_bytes(16, "big"),
        last_timestamp=op * 1000,
        release=1,
        configuration=Configuration(0, (0, 1, 2)),
        probe=b"p" * 16,
        sessions=rows,
    )


class Host:
    """One boot: does at once what the loop and the disk thread do side by side."""

    def __init__(self, disk: CrashDisk, *, pack_size: int = PACK_SIZE, budget: int = 2000) -> None:
        self.disk = disk
        self.shelf = Shelf()
        self.store = Store(segment_size=SEGMENT_SIZE, pack_size=pack_size)
        self.start = run(disk, self.store.open(self.shelf))
        self.checkpointer = Checkpointer(self.shelf)
        self.told: list[Input] = []  # Everything that a core would have heard.
        self._budget = budget

    def put(self, *work: Work) -> list[Input]:
        """Give work to the store and settle; return what came of it."""
        for item in work:
            self.store.put(item)
        return self.settle()

    def settle(self) -> list[Input]:
        """Run until nothing is left to do; return what a core would have heard since the last time."""
        before = len(self.told)
        while self.advance() or self.run_job():
            pass
        return self.told[before:]

    def advance(self) -> bool:
        """Do one slice of the loop's side."""
        if not self.checkpointer.is_due:
            return False
        work, inputs = self.checkpointer.advance(self._budget)
        for item in work:
            self.store.put(item)
        self.told += inputs
        return True

    def run_job(self) -> bool:
        """Run one job of the store."""
        job = self.store.take()
        if job is None:
            return False
        completions: Iterable[Completion] = run(self.disk, job)
        self.told += self.checkpointer.sift(completions)
        return True

    def begin(self, op: int) -> None:
        """Freeze the state."""
        self.checkpointer.begin(CheckpointBegin(CLUSTER, core_state(op)))

    def checkpoint(self, op: int) -> CheckpointId:
        """Write a checkpoint, which must succeed."""
        self.begin(op)
        [done] = self.settle()
        assert isinstance(done, CheckpointDone)
        return done.id

    def make_live(self, checkpoint: CheckpointId) -> None:
        """Name a checkpoint in the superblock, with the op as view, and free everything else."""
        self.put(SuperblockWrite(checkpoint.op, image(checkpoint.op, checkpoint)))
        self.put(Collect(0, (checkpoint,)))

    def install(self, target: CheckpointId) -> list[Input]:
        """Load a transferred checkpoint."""
        self.checkpointer.install(Install(target))
        return self.settle()

    def adopt(self, target: CheckpointId) -> None:
        """Make it the application's state."""
        self.checkpointer.adopt(Adopt(target))

    @property
    def packs(self) -> list[str]:
        """The pack files on disk."""
        return sorted(name for name in self.disk.cache if name.startswith("checkpoints/"))
