"""The store joins identity, superblock, proofs and journal behind three calls: open, put, take.

The core's storage outputs are `put`; `take` makes one job of everything that waits: a group commit
(R-STORE). Nothing here does I/O: jobs run on any `Disk`.
"""

from __future__ import annotations

from trio_pb.core.durable import Install, Proof, Scan, Superblock
from trio_pb.core.messages import Configuration
from trio_pb.core.ports import (
    Input,
    Start,
    SuperblockDone,
    SuperblockWrite,
    WalAppend,
    WalDone,
    WalRead,
    WalReadDone,
)
from trio_pb.core.prepare import genesis
from trio_pb.errors import DataDirectoryError, StorageError
from trio_pb.storage.disk import Job, ListFiles
from trio_pb.storage.identity import IDENTITY_FILE, Identity, read_identity, write_identity
from trio_pb.storage.journal import LOG_FOLDER, SEGMENT_SIZE, Journal
from trio_pb.storage.proofs import PROOFS_FILE, ProofFile
from trio_pb.storage.superblock import SUPERBLOCK_FILE, SuperblockFile

__all__ = ["READ_BYTES_PER_JOB", "Store", "format_directory"]

READ_BYTES_PER_JOB = 1 << 20  # Repair reads share jobs with appends: more would delay acknowledgements.


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
    if IDENTITY_FILE in present:
        raise DataDirectoryError(f"{IDENTITY_FILE}: this directory belongs to a replica already; it was not formatted")
    ours = [name for name in (SUPERBLOCK_FILE, PROOFS_FILE) if name in present]
    ours += [f"{LOG_FOLDER}/{name}" for name in segments]
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


class Store:
    """All durable state of one replica for one boot."""

    def __init__(self, *, segment_size: int = SEGMENT_SIZE) -> None:
        self._segment_size = segment_size  # Bytes; a multiple of 4096.
        self._superblock: SuperblockFile | None = None  # All three from `open` on.
        self._proofs: ProofFile | None = None
        self._journal: Journal | None = None
        self._appends: list[WalAppend] = []
        self._superblock_write: SuperblockWrite | None = None
        self._reads: list[WalRead] = []
        # A job runs. Stays so when the job fails: a store that failed once does nothing more (R-IOERR).
        self._busy = False

    def open(self) -> Job[Start]:
        """Read everything, heal the superblock, begin this boot's segment; returns the core's first input.

        Raises:
            DataDirectoryError: the directory is not one of ours, or newer. Nothing was touched.
            StorageError: the disk is lost, or its parts belong to different replicas.
        """
        assert self._journal is None, "a store is opened once"
        identity = yield from read_identity()
        self._superblock = SuperblockFile(identity.incarnation)
        image = yield from self._superblock.open()
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
        self._proofs = ProofFile(identity.incarnation)
        proof = yield from self._proofs.open()
        self._journal = Journal(identity.incarnation, self._segment_size)
        has_log, records = yield from self._journal.open(image.boot + 1)
        return Start(image, Scan(proof, has_log, records))

    def put(self, output: WalAppend | SuperblockWrite | WalRead) -> None:
        """Queue one output of the core. Several superblock images queued become the newest of them."""
        if isinstance(output, WalAppend):
            self._appends.append(output)
        elif isinstance(output, SuperblockWrite):
            self._superblock_write = output
        else:
            self._reads.append(output)

    def take(self) -> Job[tuple[Input, ...]] | None:
        """Return one job for what is queued, or None when there is nothing to do.

        Its value are the completions. Call again after the job has ended, never before: reads beyond
        `READ_BYTES_PER_JOB` and the zero-filling of the next segment wait for their turn.
        """
        assert self._journal is not None, "open the store first"
        assert not self._busy, "one job at a time, and none after a job failed (R-IOERR)"
        if self._appends or self._superblock_write or self._reads:
            self._busy = True
            appends, self._appends = self._appends, []
            superblock_write, self._superblock_write = self._superblock_write, None
            return self._work(appends, superblock_write, self._take_reads(self._journal))
        if self._journal.spare_is_due:
            self._busy = True
            return self._extend_spare()
        return None

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

    def _work(
        self, appends: list[WalAppend], superblock_write: SuperblockWrite | None, reads: list[WalRead]
    ) -> Job[tuple[Input, ...]]:
        assert self._superblock is not None
        assert self._proofs is not None
        assert self._journal is not None
        done: list[Input] = []
        if appends:
            yield from self._journal.append([prepare for append in appends for prepare in append.prepares])
            # Only after the records are durable: a proof without its record must mean damage, never a
            # crash (R-STORE 3). The latest covers all the others.
            proofs = [append.proof for append in appends if append.proof is not None]
            if proofs:
                yield from self._proofs.write(proofs[-1])
            done.append(WalDone(appends[-1].sequence))
        if superblock_write is not None:
            yield from self._superblock.write(superblock_write.image)
            done.append(SuperblockDone(superblock_write.sequence))
        for read in reads:
            prepare = yield from self._journal.read(read.id)
            done.append(WalReadDone(read.id, prepare))
        if self._journal.spare_is_late:
            yield from self._journal.extend_spare()
        self._busy = False
        return tuple(done)

    def _extend_spare(self) -> Job[tuple[Input, ...]]:
        assert self._journal is not None
        yield from self._journal.extend_spare()
        self._busy = False
        return ()
