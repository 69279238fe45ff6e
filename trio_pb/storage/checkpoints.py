"""Checkpoints on disk: writing and loading them, transferring them, freeing what no kept one names (PROTOCOL 8.2, 9).

All of them share one bag of chunks, so an unchanged chunk is on disk once. A checkpoint is its chunks,
then its manifest, in this order: one whose manifest is there is complete. What is not named by a kept
manifest, the manifest being transferred or the checkpoint being written is garbage.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from trio_pb.core.manifest import Chunk, CoreState, Manifest, SessionRow, decode_manifest, decode_sessions, manifest_id
from trio_pb.core.messages import GENESIS_CHECKPOINT, CheckpointId
from trio_pb.core.ports import (
    CheckpointDone,
    CheckpointFailed,
    ChunkPut,
    ChunkRead,
    ChunkReadDone,
    ChunkStored,
    InstallFailed,
    SyncBegin,
    SyncState,
)
from trio_pb.errors import DiskFullError, RemoteProtocolError
from trio_pb.storage.disk import Job
from trio_pb.storage.lanes import SLICE_BYTES, Pause, Task
from trio_pb.storage.packs import Location, Pack, Packs, PackWriter, record_size
from trio_pb.storage.work import (
    CheckpointClaim,
    CheckpointClaimed,
    CheckpointFinish,
    CheckpointWrite,
    CheckpointWritten,
    Completion,
    InstallRead,
    InstallReadDone,
)

__all__ = ["Checkpoints", "Restorable", "Restoring"]

SMALL_PACKS_MAX = 8  # More of them are merged into one.
SMALL_PARTS = 16  # A pack below this part of the full size is small.


class Restoring(Protocol):
    """An application's state while it is built from the chunks of a checkpoint, beside the present one."""

    def put(self, place: int, data: bytes) -> None:
        """Take the chunk of one place; each comes once, by rising place.

        Raises:
            RemoteProtocolError: `data` is not the encoding of a chunk.
        """
        ...

    def finish(self) -> None:
        """Check that nothing is missing.

        Raises:
            RemoteProtocolError: the chunks do not go together.
        """
        ...


class Restorable(Protocol):
    """The part of an application that loading needs."""

    def restoring(self) -> Restoring:
        """Return an empty state to be filled."""
        ...

    # Any: each application takes its own class of what it began to restore.
    def adopt(self, restoring: Any, op: int) -> None:
        """Make the state that was filled, that after `op`, the present one."""
        ...


@attrs.define
class _Attempt:
    """The checkpoint being written, or the last one that was."""

    serial: int
    op: int
    writer: PackWriter
    claims: set[bytes]  # Chunks that it needs: nobody removes them.
    id: CheckpointId | None = None  # When it is complete.
    is_over: bool = False


class Checkpoints:
    """Everything about checkpoints that the disk has to do, in tasks.

    Completions go to `done`; `full` is called when work waits for space, and `collect_again` when
    garbage that could not be told from the rest before may be known now.
    """

    def __init__(
        self,
        packs: Packs,
        cluster: bytes,
        *,
        done: Callable[[Completion], None],
        full: Callable[[], None],
        collect_again: Callable[[], None],
    ) -> None:
        self._packs = packs
        self._cluster = cluster
        self._done = done
        self._full = full
        self._collect_again = collect_again
        self._is_ignorant = False  # The last look for garbage found that something kept is not here.
        self._seen: set[CheckpointId] = set()  # Kept ones whose manifest was here in this boot.
        self._partial: set[CheckpointId] = set()  # Kept, and found incomplete by opening: a transfer that began.
        self._kept: tuple[CheckpointId, ...] = ()
        self._own = GENESIS_CHECKPOINT  # That the superblock on disk names.
        self._manifests: dict[CheckpointId, Manifest] = {}  # Of those in use: decoding one takes milliseconds.
        self._named: dict[CheckpointId, frozenset[bytes]] = {}  # What each of these needs, itself included.
        self._attempt: _Attempt | None = None
        self._sync: CheckpointId | None = None
        self._sync_writer = PackWriter(packs)
        self._puts: deque[ChunkPut] = deque()
        self._reads: deque[ChunkRead] = deque()
        self._served: tuple[bytes, bytes] = (b"", b"")  # Digest and bytes of the chunk last read in pieces.

    # --- Loading --------------------------------------------------------------------------------

    def load(self, checkpoint: CheckpointId, machine: Restorable | None) -> Job[CoreState | None]:
        """Decode a whole checkpoint into the application, if there is one; None, and no change, if it does not load."""
        manifest = yield from self._manifest(checkpoint)
        if manifest is None:
            return None
        restoring = None if machine is None else machine.restoring()
        rows: list[SessionRow] = []
        try:
            for chunk in manifest.sessions:
                data = yield from self._packs.get(chunk.digest)
                if data is None:
                    return None
                rows += decode_sessions(data)
            for chunk in manifest.application:
                data = yield from self._packs.get(chunk.digest)
                if data is None:
                    return None
                if restoring is not None:
                    restoring.put(chunk.place, data)
            if restoring is not None:
                restoring.finish()
        except RemoteProtocolError:
            return None
        if machine is not None:
            machine.adopt(restoring, checkpoint.op)
        return with_sessions(manifest, rows)

    def read_install(self, work: InstallRead) -> Task[None]:
        """Read and verify one slice of a checkpoint that is to be installed."""
        manifest = yield from self._manifest(work.target)
        if manifest is None:
            self._done(InstallFailed(work.target, work.serial))
            return
        chunks: list[bytes] = []
        size = 0
        for index, chunk in enumerate(manifest.chunks[work.start :], start=work.start):
            if chunks and size + chunk.size > SLICE_BYTES:
                break
            data = yield from self._packs.get(chunk.digest)
            if data is None:
                # So that the next SyncBegin tells of all of them at once.
                yield from self._drop_damaged(manifest.chunks[index:])
                self._done(InstallFailed(work.target, work.serial))
                return
            chunks.append(data)
            size += len(data)
        self._done(InstallReadDone(work.target, manifest, work.start, tuple(chunks), work.serial))

    def _drop_damaged(self, chunks: tuple[Chunk, ...]) -> Task[None]:
        size = 0
        for chunk in chunks:
            yield from self._packs.get(chunk.digest)
            size += chunk.size
            if size > SLICE_BYTES:
                size = 0
                yield Pause.TURN

    # --- Writing --------------------------------------------------------------------------------

    def claim(self, work: CheckpointClaim) -> Task[None]:
        """Begin a checkpoint: what it shares with those before it must stay from now on."""
        done = None if self._attempt is None else self._attempt.id
        if done is not None and done not in self._kept:
            # The Collect that names it is on its way: a collection that began before must not take it.
            self._kept = (*self._kept, done)
        if self._attempt is not None:
            self._attempt.writer.close()
        present = {digest for digest in work.digests if digest in self._packs}
        self._attempt = _Attempt(work.serial, work.op, PackWriter(self._packs), present)
        self._done(CheckpointClaimed(work.serial, work.digests - present))
        yield from ()  # No step, and yet a task like the others.

    def write(self, work: CheckpointWrite) -> Task[None]:
        """Write those chunks of a checkpoint that are not there yet."""
        attempt = self._current(work.serial)
        if attempt is None:
            return
        fresh = {digest: data for digest, data in work.chunks if digest not in self._packs}
        try:
            yield from attempt.writer.write(tuple(fresh.items()))
        except DiskFullError:
            yield from self._fail(attempt)
            return
        attempt.claims.update(digest for digest, _ in work.chunks)
        self._done(CheckpointWritten(work.serial, sum(len(data) for _, data in work.chunks)))

    def finish(self, work: CheckpointFinish) -> Task[None]:
        """Write the manifest: with it the checkpoint is complete."""
        attempt = self._current(work.serial)
        if attempt is None:
            return
        lacking = frozenset(digest for digest in attempt.claims if digest not in self._packs)
        if lacking:
            # Found damaged since they were claimed.
            attempt.claims -= lacking
            self._done(CheckpointClaimed(work.serial, lacking))
            return
        if work.id.digest not in self._packs:
            try:
                yield from attempt.writer.write(((work.id.digest, work.manifest),))
            except DiskFullError:
                yield from self._fail(attempt)
                return
        # It stays claimed until the next one begins: by then the core names it among those to keep.
        attempt.claims.add(work.id.digest)
        attempt.id = work.id
        self._manifests[work.id] = work.contents
        attempt.writer.close()
        attempt.is_over = True
        if work.id not in self._kept:
            self._kept = (*self._kept, work.id)  # Scrubbed from now on, not from the first Collect after it.
        self._done(CheckpointDone(work.id))
        if self._is_ignorant:
            # A replica that is slow to checkpoint is told to keep what the others certified already.
            self._collect_again()

    def _current(self, serial: int) -> _Attempt | None:
        attempt = self._attempt
        return None if attempt is None or attempt.serial != serial or attempt.is_over else attempt

    def _fail(self, attempt: _Attempt) -> Job[None]:
        """Give back the space that an unfinished checkpoint took, unless a transfer counts on it."""
        attempt.is_over = True
        attempt.claims.clear()
        attempt.writer.close()
        wanted = yield from self._names(self._sync)
        for pack in attempt.writer.written:
            if pack in self._packs.packs and wanted.isdisjoint(self._packs.digests_in(pack)):
                yield from self._packs.remove(pack)
        self._done(CheckpointFailed(attempt.op))

    # --- State transfer -------------------------------------------------------------------------

    def begin_sync(self, work: SyncBegin) -> Task[None]:
        """Keep a manifest of another replica; tell what is missing here (PROTOCOL 8.2, step 2)."""
        target = work.target
        manifest = self._parse(target, work.manifest)
        if manifest is None:
            self._done(SyncState(target, None))
            return
        self._sync = target
        self._manifests[target] = manifest
        if target not in self._seen:
            self._partial.add(target)  # However early others certify it: what it lacks is on its way, not damaged.
        while target.digest not in self._packs:
            try:
                yield from self._sync_writer.write(((target.digest, work.manifest),))
            except DiskFullError:
                self._full()
                yield Pause.SPACE
        missing: dict[bytes, Chunk] = {}
        for chunk in manifest.chunks:
            if chunk.digest not in self._packs:
                missing.setdefault(chunk.digest, chunk)
        if not missing:
            self._partial.discard(target)
        self._done(SyncState(target, tuple(missing.values())))

    def put(self, work: ChunkPut) -> Task[None]:
        """Keep a chunk, together with others that wait."""
        self._puts.append(work)
        return self._put_chunks()

    def _put_chunks(self) -> Task[None]:
        fresh: dict[bytes, bytes] = {}
        stored: list[bytes] = []
        size = 0
        while self._puts and (not stored or size + len(self._puts[0].data) <= SLICE_BYTES):
            work = self._puts.popleft()
            stored.append(work.digest)
            if work.digest not in self._packs:
                fresh[work.digest] = work.data
                size += len(work.data)
        while True:
            try:
                yield from self._sync_writer.write(tuple(fresh.items()))
                break
            except DiskFullError:
                self._full()
                yield Pause.SPACE
        for digest in stored:
            self._done(ChunkStored(digest))

    def read(self, work: ChunkRead) -> Task[None]:
        """Read a piece of a chunk for a peer, together with others that wait."""
        self._reads.append(work)
        return self._read_chunks()

    def _read_chunks(self) -> Task[None]:
        size = 0
        while self._reads and size < SLICE_BYTES:
            work = self._reads.popleft()
            if self._served[0] != work.digest:
                # A chunk is asked for piece by piece, and only a whole one can be verified.
                data = yield from self._packs.get(work.digest)
                self._served = (work.digest, data) if data is not None else (b"", b"")
                size += 0 if data is None else len(data)
            if self._served[0] != work.digest:
                self._done(ChunkReadDone(work.replica, work.digest, work.offset, None, 0))
                continue
            chunk = self._served[1]
            piece = chunk[work.offset : work.offset + work.size]
            self._done(ChunkReadDone(work.replica, work.digest, work.offset, piece, len(chunk)))

    # --- Freeing --------------------------------------------------------------------------------

    def keep(self, checkpoints: tuple[CheckpointId, ...]) -> None:
        """These, and nothing else besides what is under way, are needed from now on; genesis has no chunks."""
        # Whatever the order in which lanes come to their turns: what the superblock names stays.
        named = (*checkpoints, *(own for own in (self._own,) if own not in checkpoints))
        self._kept = tuple(checkpoint for checkpoint in named if checkpoint.op)
        if self._sync in self._kept:
            self._sync = None
            self._sync_writer.close()
        in_use = (*self._kept, self._sync, None if self._attempt is None else self._attempt.id)
        self._manifests = {known: manifest for known, manifest in self._manifests.items() if known in in_use}
        self._named = {known: names for known, names in self._named.items() if known in in_use}
        self._partial.intersection_update(in_use)
        self._seen.intersection_update(self._kept)
        self._seen.update(it for it in self._kept if it.digest in self._packs and it not in self._partial)

    def note_partial(self) -> Job[None]:
        """What opening found in part only is the beginning of a transfer: no damage that scrubbing should tell of."""
        for checkpoint in self._kept:
            manifest = yield from self._manifest(checkpoint)
            if manifest is None or any(chunk.digest not in self._packs for chunk in manifest.chunks):
                self._partial.add(checkpoint)
                self._seen.discard(checkpoint)

    def note_own(self, checkpoint: CheckpointId) -> None:
        """The superblock on disk calls this checkpoint ours: it was here, even if it cannot be found."""
        self._own = checkpoint
        self._partial.discard(checkpoint)
        self._seen.add(checkpoint)
        if checkpoint.op and checkpoint not in self._kept:
            self._kept = (*self._kept, checkpoint)  # A copied one, which no Collect has named yet, can rot as well.

    def kept_manifests(self) -> Job[dict[CheckpointId, Manifest | None]]:
        """Return those of the checkpoints that are kept and were ever here; None: it cannot be read any more."""
        found: dict[CheckpointId, Manifest | None] = {}
        for checkpoint in self._kept:
            manifest = yield from self._manifest(checkpoint)
            if manifest is not None and checkpoint not in self._partial:
                self._seen.add(checkpoint)
            if checkpoint in self._seen:
                found[checkpoint] = manifest
        return found

    def collect(self) -> Task[None]:
        """Remove packs without any live chunk; rewrite the live ones of packs that waste space (R-GC)."""
        live = yield from self._live()
        self._is_ignorant = live is None
        for pack in self._packs.finished:
            if live is None:
                return
            if self._is_idle(pack) and live.isdisjoint(self._packs.digests_in(pack)):
                yield from self._packs.remove(pack)
                yield Pause.TURN
                live = yield from self._live()
        if live is None:
            return
        writer = PackWriter(self._packs)
        try:
            for pack in (yield from self._wasteful(live)):
                if not (yield from self._evacuate(pack, writer)):
                    return
        finally:
            writer.close()

    def _evacuate(self, pack: Pack, writer: PackWriter) -> Task[bool]:
        """Move what lives in `pack` elsewhere, a slice at a time, then remove it; False: better stop here."""
        while True:
            live = yield from self._live()
            if live is None:
                return False
            batch = _first_slice(self._live_in(pack, live))
            if not batch:
                if self._is_idle(pack):
                    yield from self._packs.remove(pack)
                return True
            chunks: list[tuple[bytes, bytes]] = []
            for digest, _ in batch:
                data = yield from self._packs.get(digest)
                if data is None:
                    return False  # Damaged, and not in the bag any more: scrubbing tells the core.
                chunks.append((digest, data))
            try:
                yield from writer.write(chunks)
            except DiskFullError:
                for written in writer.written:
                    if not self._packs.chunks_in(written):
                        yield from self._packs.remove(written)
                return False
            yield Pause.TURN

    def _is_idle(self, pack: Pack) -> bool:
        """Whether the pack still exists and nobody appends to it."""
        return pack in self._packs.finished

    def _live_in(self, pack: Pack, live: set[bytes]) -> list[tuple[bytes, Location]]:
        return [(digest, it) for digest, it in self._packs.chunks_in(pack) if digest in live]

    def _live(self) -> Job[set[bytes] | None]:
        """Return every chunk that must stay.

        None: it cannot be known, since a manifest that is kept is unreadable; or what it names is missing
        here, and may lie unread in a pack that seems empty. Never collect on ignorance.
        """
        live: set[bytes] = set()
        for checkpoint in self._kept:
            names = yield from self._names(checkpoint)
            if not names or not self._packs.has_all(names):
                return None
            live |= names
        live |= yield from self._names(self._sync)
        if self._attempt is not None:
            live |= self._attempt.claims
        return live

    def _names(self, checkpoint: CheckpointId | None) -> Job[frozenset[bytes]]:
        """Return the digests of all that a checkpoint needs; none when its manifest cannot be read."""
        manifest = None if checkpoint is None else (yield from self._manifest(checkpoint))
        if checkpoint is None or manifest is None:
            return frozenset()
        names = self._named.get(checkpoint)
        if names is None:
            names = frozenset((checkpoint.digest, *(chunk.digest for chunk in manifest.chunks)))
            self._named[checkpoint] = names
        return names

    def _wasteful(self, live: set[bytes]) -> Task[list[Pack]]:
        """Return the packs that should be rewritten; what lives in them may change while they are looked at."""
        wasteful: list[Pack] = []
        small: list[Pack] = []
        for pack in self._packs.finished:
            size = self._packs.file_size(pack)
            if size < self._packs.pack_size // SMALL_PARTS:
                small.append(pack)  # Whatever it wastes is little, and rewriting it might waste as much.
                continue
            used = sum(record_size(it.size) for _, it in self._live_in(pack, live))
            if 2 * used < size:
                wasteful.append(pack)
            yield Pause.TURN
        return wasteful + (small if len(small) > SMALL_PACKS_MAX else [])

    # --- Manifests ------------------------------------------------------------------------------

    def _manifest(self, checkpoint: CheckpointId) -> Job[Manifest | None]:
        """Return the manifest of a checkpoint, None when it is missing, damaged or of something else."""
        if checkpoint.digest not in self._packs:
            return None
        manifest = self._manifests.get(checkpoint)
        if manifest is None:
            data = yield from self._packs.get(checkpoint.digest)
            manifest = None if data is None else self._parse(checkpoint, data)
            if manifest is not None:
                self._manifests[checkpoint] = manifest
        return manifest

    def _parse(self, checkpoint: CheckpointId, data: bytes) -> Manifest | None:
        if manifest_id(checkpoint.op, data) != checkpoint:
            return None
        try:
            manifest = decode_manifest(data)
        except RemoteProtocolError:
            return None
        return manifest if (manifest.cluster, manifest.state.op) == (self._cluster, checkpoint.op) else None


def with_sessions(manifest: Manifest, rows: list[SessionRow]) -> CoreState:
    """Return the core's state with its sessions, least recently used first."""
    return attrs.evolve(manifest.state, sessions=tuple(sorted(rows, key=lambda row: (row.last_op, row.session))))


def _first_slice(chunks: list[tuple[bytes, Location]]) -> list[tuple[bytes, Location]]:
    size = 0
    for count, (_, location) in enumerate(chunks):
        size += location.size
        if count and size > SLICE_BYTES:
            return chunks[:count]
    return chunks
