"""The store joins all that is on disk behind three calls: open, put, take.

What the core and the checkpointer ask for is `put`; `take` makes one job of it. Urgent is what replies wait
for: appends, superblock, repair reads, all that waits in one job: a group commit (R-STORE). All else
is long work in slices (`lanes`), which take turns with it. Nothing here does I/O: jobs run on any `Disk`.
"""

from __future__ import annotations

import attrs

from trio_pb.core.durable import Install, Proof, Scan, Superblock
from trio_pb.core.manifest import CoreState
from trio_pb.core.messages import Configuration
from trio_pb.core.ports import (
    ChunkPut,
    ChunkRead,
    Collect,
    Scrub,
    Space,
    SpaceCheck,
    Start,
    SuperblockDone,
    SuperblockWrite,
    SyncBegin,
    WalAppend,
    WalDone,
    WalRead,
    WalReadDone,
)
from trio_pb.core.prepare import genesis
from trio_pb.errors import DataDirectoryError, DiskFullError, StorageError
from trio_pb.storage.checkpoints import Checkpoints, Restorable
from trio_pb.storage.disk import Allocate, Job, ListFiles, Remove
from trio_pb.storage.identity import IDENTITY_FILE, Identity, read_identity, write_identity
from trio_pb.storage.journal import LOG_FOLDER, SEGMENT_SIZE, Journal
from trio_pb.storage.lanes import Lanes, Pause, Task
from trio_pb.storage.packs import CHECKPOINT_FOLDER, PACK_SIZE, Packs
from trio_pb.storage.proofs import PROOFS_FILE, ProofFile
from trio_pb.storage.scrub import Scrubber
from trio_pb.storage.superblock import SUPERBLOCK_FILE, SuperblockFile
from trio_pb.storage.work import CheckpointClaim, CheckpointFinish, CheckpointWrite, Completion, InstallRead, Work

__all__ = ["READ_BYTES_PER_JOB", "Store", "format_directory"]

READ_BYTES_PER_JOB = 1 << 20  # Repair reads share jobs with appends: more would delay acknowledgements.

# While appends never cease, one slice of other work after this many group commits: a checkpoint must make
# progress under load, or the log grows until writes stop.
COMMITS_PER_SLICE = 3

SPACE_FILE = "space"  # Made and removed at once, to see whether there is room.
SPACE_BYTES = 1 << 20


def format_directory(
    *,
    cluster: bytes,
    replica: int,
    incarnation: bytes,
    voters: tuple[int, ...],
    segment_size: int = SEGMENT_SIZE,
) -> Job[None]:
    """Make an empty directory the data directory of a new replica.

    The identity comes last: a format cut by a crash leaves a directory that neither opens nor
    formats, and that is plainly safe to delete, since it never voted.

    Raises:
        DataDirectoryError: the directory holds something already. Nothing was touched.
    """
    present: tuple[str, ...] = yield ListFiles("")
    segments: tuple[str, ...] = yield ListFiles(LOG_FOLDER)
    packs: tuple[str, ...] = yield ListFiles(CHECKPOINT_FOLDER)
    if IDENTITY_FILE in present:
        raise DataDirectoryError(f"{IDENTITY_FILE}: this directory belongs to a replica already; it was not formatted")
    ours = [name for name in (SUPERBLOCK_FILE, PROOFS_FILE) if name in present]
    ours += [f"{LOG_FOLDER}/{name}" for name in segments] + [f"{CHECKPOINT_FOLDER}/{name}" for name in packs]
    if ours:
        raise DataDirectoryError(
            f"{ours[0]}: this directory is not empty but has no {IDENTITY_FILE}: either an earlier format was cut "
            "short (then delete the directory), or a replica's identity was lost (then replace that replica by one "
            "with a new id); it was not formatted"
        )
    anchor = genesis(cluster).id
    image = Superblock(
        cluster=cluster,
        replica=replica,
        incarnation=incarnation,
        boot=0,
        born=voters == (replica,),
        view=0,
        log_view=0,
        install=Install(base=anchor),
        commit=anchor,
        configuration=Configuration(0, tuple(sorted(voters))),
        pinned=(),
    )
    yield from SuperblockFile(incarnation).write(image)
    yield from ProofFile(incarnation).format(Proof(0, 0, 0, b"", anchor))
    yield from Journal(incarnation, segment_size).format()
    yield from write_identity(Identity(cluster=cluster, replica=replica, incarnation=incarnation))


@attrs.frozen
class _Parts:
    """The files of one directory."""

    superblock: SuperblockFile
    proofs: ProofFile
    journal: Journal
    packs: Packs
    checkpoints: Checkpoints
    scrubber: Scrubber


class Store:
    """All durable state of one replica for one boot."""

    def __init__(self, *, segment_size: int = SEGMENT_SIZE, pack_size: int = PACK_SIZE) -> None:
        self._segment_size = segment_size  # Bytes; a multiple of 4096.
        self._pack_size = pack_size  # Bytes.
        self._parts: _Parts | None = None  # From `open` on.
        self._appends: list[WalAppend] = []
        self._superblock_write: SuperblockWrite | None = None
        self._reads: list[WalRead] = []
        self._collect: Collect | None = None  # Waits for its turn.
        self._collected: Collect | None = None  # The last one begun.
        self._lanes = Lanes()
        self._done: list[Completion] = []  # Of the running job.
        self._commits = 0  # Since the last slice of other work.
        # A job runs. Stays so when the job fails: a store that failed once does nothing more (R-IOERR).
        self._busy = False
        self._is_full = False  # As told to the core.
        self._append_waits = False  # For space, until something is put or space is found.
        self._spare_waits = False  # Likewise.

    def open(self, machine: Restorable | None = None) -> Job[Start]:
        """Look, heal, begin this boot; returns the core's first input.

        Raises:
            DataDirectoryError, StorageError: as `look`. Nothing was touched. Or a flush of the log failed.
        """
        start = yield from self._look(machine, settle=True)
        parts, image = self._parts, start.superblock
        assert parts is not None
        # Nothing was written so far: a page of a newer format anywhere leaves all as it is. From here on
        # the superblock comes first (T-35).
        yield from parts.superblock.heal()
        yield from parts.proofs.heal()
        yield from parts.journal.begin(image.boot + 1)
        yield from parts.packs.begin()
        yield Remove(SPACE_FILE)
        # Before the core says which to keep. The certified one may be of others, and never have been here.
        certified = (image.certified,) if image.certified.digest in parts.packs else ()
        parts.checkpoints.keep((image.checkpoint, *certified))
        yield from parts.checkpoints.note_partial()
        parts.checkpoints.note_own(image.checkpoint)
        return start

    def look(self, machine: Restorable | None = None) -> Job[Start]:
        """Read everything and load the newest checkpoint; writes nothing, so nothing may rest on it yet.

        The checkpoint goes into `machine`, which must be new; without one its chunks are only verified.

        Raises:
            DataDirectoryError: the directory is not one of ours, or newer. Nothing was touched.
            StorageError: the disk is lost, or its parts belong to different replicas. Nothing was touched.
        """
        return (yield from self._look(machine, settle=False))

    def _look(self, machine: Restorable | None, *, settle: bool) -> Job[Start]:
        assert self._parts is None, "a store is opened once"
        identity = yield from read_identity()
        superblock = SuperblockFile(identity.incarnation)
        image = yield from superblock.read()
        if (image.cluster, image.replica, image.incarnation) != (
            identity.cluster,
            identity.replica,
            identity.incarnation,
        ):
            raise StorageError(
                f"{SUPERBLOCK_FILE}: belongs to replica {image.replica} of cluster {image.cluster.hex()}, but "
                f"{IDENTITY_FILE} says replica {identity.replica} of {identity.cluster.hex()}; "
                "files of several replicas were mixed: restore the right ones, or replace this replica"
            )
        parts = self._parts = self._join(identity, superblock)
        proof = yield from parts.proofs.read()
        if settle:
            yield from parts.journal.settle()
        has_log, records = yield from parts.journal.scan()
        yield from parts.packs.scan()
        state = yield from _load(parts.checkpoints, image, machine)
        return Start(image, Scan(proof, has_log, records), state)

    def _join(self, identity: Identity, superblock: SuperblockFile) -> _Parts:
        proofs = ProofFile(identity.incarnation)
        journal = Journal(identity.incarnation, self._segment_size)
        packs = Packs(identity.incarnation, self._pack_size)
        checkpoints = Checkpoints(
            packs, identity.cluster, done=self._tell, full=self._tell_full, collect_again=self._collect_again
        )
        scrubber = Scrubber(superblock, proofs, journal, packs, checkpoints)
        return _Parts(superblock, proofs, journal, packs, checkpoints, scrubber)

    def put(self, work: Work) -> None:
        """Queue one thing to do. Of several superblock images, or Collects, that wait, the newest counts."""
        assert self._parts is not None, "open the store first"
        checkpoints = self._parts.checkpoints
        match work:
            case WalAppend():
                self._appends.append(work)
                self._wake()
            case SuperblockWrite():
                self._superblock_write = work
            case WalRead():
                self._reads.append(work)
            case CheckpointClaim():
                self._lanes.put("checkpoint", checkpoints.claim(work))
            case CheckpointWrite():
                self._lanes.put("checkpoint", checkpoints.write(work))
            case CheckpointFinish():
                self._lanes.put("checkpoint", checkpoints.finish(work))
            case SyncBegin():
                self._lanes.put("transfer", checkpoints.begin_sync(work))
            case ChunkPut():
                self._lanes.put("transfer", checkpoints.put(work))
            case InstallRead():
                self._lanes.put("transfer", checkpoints.read_install(work))
            case ChunkRead():
                self._lanes.put("serve", checkpoints.read(work))
            case Collect():
                self._queue_collect(self._parts, work)
            case Scrub():
                self._lanes.put("scrub", self._scrub(self._parts.scrubber))
            case SpaceCheck():
                self._lanes.put("space", self._check_space(self._parts.journal))

    def take(self) -> Job[tuple[Completion, ...]] | None:
        """Return one job for what is queued, or None when there is nothing to do.

        Its value are the completions. Call again after the job has ended, never before: a job is one group
        commit or one slice of longer work, and the rest waits for its turn.
        """
        assert self._parts is not None, "open the store first"
        assert not self._busy, "one job at a time, and none after a job failed (R-IOERR)"
        is_urgent = bool((self._appends and not self._append_waits) or self._superblock_write or self._reads)
        slice_job = None if is_urgent and self._commits < COMMITS_PER_SLICE else self._lanes.take()
        if slice_job is not None:
            self._busy = True
            self._commits = 0
            return self._ending(slice_job)
        if is_urgent:
            self._busy = True
            self._commits += 1
            appends: list[WalAppend] = []
            if not self._append_waits:
                appends, self._appends = self._appends, []
            superblock_write, self._superblock_write = self._superblock_write, None
            reads = self._take_reads(self._parts.journal)
            return self._ending(self._commit(self._parts, appends, superblock_write, reads))
        if self._parts.journal.spare_is_due and not self._spare_waits:
            self._busy = True
            return self._ending(self._extend_spare(self._parts.journal))
        return None

    def _ending(self, job: Job[None]) -> Job[tuple[Completion, ...]]:
        yield from job
        done, self._done = self._done, []
        self._busy = False
        return tuple(done)

    # --- Urgent work ----------------------------------------------------------------------------

    def _take_reads(self, journal: Journal) -> list[WalRead]:
        size = 0
        count = 0
        for read in self._reads:
            size += journal.size_of(read.id)
            if count and size > READ_BYTES_PER_JOB:
                break
            count += 1
        taken = self._reads[:count]
        del self._reads[:count]
        return taken

    def _commit(
        self, parts: _Parts, appends: list[WalAppend], superblock_write: SuperblockWrite | None, reads: list[WalRead]
    ) -> Job[None]:
        if appends:
            yield from self._append(parts, appends)
        if superblock_write is not None:
            yield from parts.superblock.write(superblock_write.image)
            parts.checkpoints.note_own(superblock_write.image.checkpoint)
            self._tell(SuperblockDone(superblock_write.sequence))
        for read in reads:
            prepare = yield from parts.journal.read(read.id)
            self._tell(WalReadDone(read.id, prepare))
        if parts.journal.spare_is_late and not self._spare_waits:
            yield from self._extend_spare(parts.journal)

    def _append(self, parts: _Parts, appends: list[WalAppend]) -> Job[None]:
        has_room = True
        if any(append.proof is not None for append in appends):
            has_room = yield from parts.journal.replace_lost()
        prepares = [prepare for append in appends for prepare in append.prepares]
        count = (yield from parts.journal.append(prepares)) if has_room else 0
        durable: list[WalAppend] = []
        for append in appends if has_room else ():
            count -= len(append.prepares)
            if count < 0:
                break
            durable.append(append)
        if len(durable) < len(appends):
            # No room for a new segment. They wait, unacknowledged; that some of their records are written
            # already does no harm when they are written again.
            self._append_waits = True
            self._appends[:0] = appends[len(durable) :]
            self._tell_full()
        # Only after the records are durable: a proof without its record must mean damage, never a
        # crash (R-STORE 3). The latest covers all the others.
        proofs = [append.proof for append in durable if append.proof is not None]
        if proofs:
            yield from parts.proofs.write(proofs[-1])
        if durable:
            self._tell(WalDone(durable[-1].sequence))

    # --- Space ----------------------------------------------------------------------------------

    def _extend_spare(self, journal: Journal) -> Job[None]:
        try:
            yield from journal.extend_spare()
        except DiskFullError:
            self._spare_waits = True
            self._tell_full()

    def _check_space(self, journal: Journal) -> Task[None]:
        try:
            while journal.wants_spare:
                yield from journal.extend_spare()
                yield Pause.TURN
            yield Allocate(SPACE_FILE, SPACE_BYTES)
            yield Remove(SPACE_FILE)
        except DiskFullError:
            self._is_full = True
        else:
            self._is_full = False
            self._wake()
        self._tell(Space(self._is_full))

    def _tell(self, completion: Completion) -> None:
        self._done.append(completion)

    def _tell_full(self) -> None:
        if not self._is_full:
            self._is_full = True
            self._tell(Space(is_full=True))

    def _wake(self) -> None:
        """There may be space now: let everything that waits for it try again."""
        self._append_waits = self._spare_waits = False
        self._lanes.wake()

    # --- Long work ------------------------------------------------------------------------------

    def _queue_collect(self, parts: _Parts, collect: Collect) -> None:
        if self._collect is None:
            self._lanes.put("collect", self._collect_garbage(parts))
        self._collect = collect

    def _collect_again(self) -> None:
        if self._collect is None and self._collected is not None and self._parts is not None:
            self._queue_collect(self._parts, self._collected)

    def _collect_garbage(self, parts: _Parts) -> Task[None]:
        collect, self._collect = self._collect, None
        if collect is None:
            return  # Asked for twice at the same moment, by the loop and by a job.
        self._collected = collect
        parts.checkpoints.keep(collect.keep)
        while (segment := parts.journal.oldest_below(collect.wal_low)) is not None:
            yield from parts.journal.remove(segment)
            yield Pause.TURN
        yield from parts.checkpoints.collect()

    def _scrub(self, scrubber: Scrubber) -> Task[None]:
        scrubbed = yield from scrubber.slice()
        self._tell(scrubbed)


def _load(checkpoints: Checkpoints, image: Superblock, machine: Restorable | None) -> Job[CoreState | None]:
    """Load our own newest checkpoint, else the certified one, if it is here (R-SCAN 1)."""
    for checkpoint in (image.checkpoint, image.certified):
        if checkpoint.op:
            state = yield from checkpoints.load(checkpoint, machine)
            if state is not None:
                return state
    return None
