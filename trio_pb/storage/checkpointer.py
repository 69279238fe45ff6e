"""Checkpoints on the loop's side: freeze, encode, decode, a slice at a time between turns (PROTOCOL 9).

The application lives in the loop and the disk does not. A `Checkpointer` cuts the core's CheckpointBegin
and Install into slices, passes them to the Store and back, and tells the core when all is done. Driver and
simulator use it alike: `sift` all that the Store completes, call `advance` between turns while
`is_due`, and hand its work to the Store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple, Protocol

import attrs

from trio_pb.core.manifest import (
    Chunk,
    Manifest,
    SessionRow,
    chunk_digest,
    decode_sessions,
    encode_sessions,
    manifest_id,
    manifest_pieces,
    session_place,
)
from trio_pb.core.messages import CheckpointId
from trio_pb.core.ports import (
    Adopt,
    CheckpointBegin,
    CheckpointDone,
    CheckpointFailed,
    CheckpointRetry,
    Input,
    Install,
    Installed,
    InstallFailed,
)
from trio_pb.errors import RemoteProtocolError, StorageError
from trio_pb.storage.checkpoints import Restorable, Restoring, with_sessions
from trio_pb.storage.work import (
    CheckpointClaim,
    CheckpointClaimed,
    CheckpointFinish,
    CheckpointWrite,
    CheckpointWritten,
    Completion,
    InstallRead,
    InstallReadDone,
    Work,
)

__all__ = ["Advance", "Checkpointer", "Frozen", "Machine", "Restorable", "Restoring"]

SORTED_PER_SLICE = 512  # Chunks and sessions looked at, 1 us each.
MANIFEST_PIECES_PER_SLICE = 4
WAITING_BYTES_MAX = 2 << 20  # Encoded and not yet on disk; then encoding waits.
WRITE_BYTES = 256 << 10  # Of one write; a larger chunk goes alone.
DECODING_COST = 8  # Decoding and checking a byte takes about as long as encoding so many.


class Frozen(Protocol):
    """An application's state as of one op, whatever happens to the application afterwards, until released."""

    @property
    def places(self) -> Sequence[int]:
        """The places of all chunks that are not empty, rising."""
        ...

    def known(self, place: int) -> tuple[bytes, int] | None:
        """Return digest and size of a chunk that did not change since it was encoded last, else None."""
        ...

    def encode(self, place: int) -> bytes:
        """Return the chunk of one place; its digest is `known` from then on."""
        ...

    def release(self) -> None:
        """Let go of this state."""
        ...


class Machine(Restorable, Protocol):
    """The part of an application that checkpoints need."""

    def freeze(self) -> Frozen:
        """Return the present state, at a cost that does not grow with it."""
        ...


class Advance(NamedTuple):
    """What came of a slice."""

    work: tuple[Work, ...]  # For the Store.
    inputs: tuple[Input, ...]  # For the core.


class _Part(NamedTuple):
    """One chunk of the state."""

    is_session: bool  # Else it is the application's.
    place: int


@attrs.define
class _Listing:
    """A manifest while it is encoded."""

    manifest: Manifest
    left: Iterator[bytes]
    pieces: list[bytes] = attrs.field(factory=list[bytes])


@attrs.define
class _Writing:
    """A checkpoint on its way to the disk."""

    begin: CheckpointBegin
    frozen: Frozen
    serial: int = 0  # Of the present attempt, 0 before the first one.
    is_claimed: bool = False  # The Store told which of the known chunks it has.
    manifest: _Listing | None = None  # Begun when all chunks were encoded.
    is_finishing: bool = False  # The manifest is on its way to the disk.
    unsorted: Iterator[SessionRow | int] | None = None  # Sessions, then places of the application's chunks.
    sessions: dict[int, list[SessionRow]] = attrs.field(factory=dict[int, list[SessionRow]])  # By place.
    waiting_bytes: int = 0  # Given to the Store and not yet written.
    to_encode: deque[_Part] = attrs.field(factory=deque[_Part])
    # Those of sessions (True) and of the application (False), by place.
    chunks: dict[bool, dict[int, Chunk]] = attrs.field(factory=lambda: {True: {}, False: {}})

    @property
    def is_due(self) -> bool:
        """There is something to do now."""
        if self.serial == 0:
            return True
        if self.is_finishing or self.waiting_bytes >= WAITING_BYTES_MAX:
            return False
        return bool(self.to_encode) or self.is_claimed


@attrs.define
class _Loading:
    """A checkpoint on its way into the application."""

    target: CheckpointId
    serial: int
    restoring: Restoring
    is_asked: bool = False
    read: deque[InstallReadDone] = attrs.field(factory=deque[InstallReadDone])
    decoded: int = 0  # Chunks of the first of these.
    rows: list[SessionRow] = attrs.field(factory=list[SessionRow])
    is_done: bool = False  # Waits for Adopt.

    @property
    def is_due(self) -> bool:
        """There is something to do now."""
        return bool(self.read) or not self.is_asked


class Checkpointer:
    """Writes and loads the checkpoints of one application; lives as long as a boot."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._writing: _Writing | None = None
        self._is_stalled = False  # The disk was full: what is frozen waits for `retry`.
        self._loading: _Loading | None = None
        self._last_serial = 0

    @property
    def is_due(self) -> bool:
        """`advance` has something to do."""
        writing, loading = self._writing, self._loading
        return (writing is not None and not self._is_stalled and writing.is_due) or (
            loading is not None and loading.is_due
        )

    # --- From the core --------------------------------------------------------------------------

    def begin(self, output: CheckpointBegin) -> None:
        """Freeze the present state, to be written slice by slice. One before is given up, and never told of again."""
        self.drop()
        self._writing = _Writing(output, self._machine.freeze())

    def retry(self, output: CheckpointRetry) -> None:
        """Try again to write the state that is still frozen, after CheckpointFailed."""
        writing = self._writing
        assert writing is not None, "nothing is frozen"
        assert writing.begin.state.op == output.op
        assert self._is_stalled, "it is being written"
        self._is_stalled = False
        self._writing = _Writing(writing.begin, writing.frozen)

    def drop(self) -> None:
        """Give up the checkpoint being written, if any: its state is worth nothing any more."""
        if self._writing is not None:
            self._writing.frozen.release()
        self._writing = None
        self._is_stalled = False

    def install(self, output: Install) -> None:
        """Decode a transferred checkpoint beside the present state; replaces one that was not adopted."""
        self._loading = _Loading(output.target, output.serial, self._machine.restoring())

    def adopt(self, output: Adopt) -> None:
        """Make the state of Installed the application's."""
        loading = self._loading
        assert loading is not None, "Installed comes first"
        assert loading.is_done, "Installed comes first"
        assert loading.target == output.target
        self._loading = None
        self._machine.adopt(loading.restoring, output.target.op)

    # --- From the store -------------------------------------------------------------------------

    def sift(self, completions: Iterable[Completion]) -> list[Input]:
        """Take what is meant for us; return what is for the core, in its order."""
        inputs: list[Input] = []
        for completion in completions:
            match completion:
                case CheckpointClaimed():
                    self._on_claimed(completion)
                case CheckpointWritten(serial, size):
                    if self._writing is not None and self._writing.serial == serial:
                        self._writing.waiting_bytes -= size
                case InstallReadDone():
                    if self._loading is not None and self._loading.serial == completion.serial:
                        self._loading.read.append(completion)
                case CheckpointDone(checkpoint):
                    if self._writing is not None and self._writing.begin.state.op == checkpoint.op:
                        self.drop()
                        inputs.append(completion)
                case CheckpointFailed(op):
                    if self._writing is not None and self._writing.begin.state.op == op:
                        self._is_stalled = True
                        inputs.append(completion)
                case InstallFailed():
                    if self._loading is not None and self._loading.serial == completion.serial:
                        self._loading = None
                        inputs.append(completion)
                case _:
                    inputs.append(completion)
        return inputs

    def _on_claimed(self, completion: CheckpointClaimed) -> None:
        writing = self._writing
        if writing is None or writing.serial != completion.serial:
            return
        writing.is_claimed = True
        writing.is_finishing = False
        writing.manifest = None  # It would name what is lacking as it was.
        if not completion.lacking:
            return
        for is_session, chunks in writing.chunks.items():
            for place in [place for place, chunk in chunks.items() if chunk.digest in completion.lacking]:
                del chunks[place]
                writing.to_encode.append(_Part(is_session, place))

    # --- Slices ---------------------------------------------------------------------------------

    def advance(self, budget_bytes: int) -> Advance:
        """Encode about `budget_bytes`, decode what takes as long, at least one chunk of each kind that is due.

        Raises:
            StorageError: a verified chunk of a certified checkpoint does not decode: its writer was of
                another release, or there is a bug. No retry would help.
        """
        work: list[Work] = []
        inputs: list[Input] = []
        if self._writing is not None and not self._is_stalled and self._writing.is_due:
            work += self._encode(self._writing, budget_bytes)
        if self._loading is not None and self._loading.is_due:
            work += self._decode(self._loading, budget_bytes // DECODING_COST, inputs)
        return Advance(tuple(work), tuple(inputs))

    def _encode(self, writing: _Writing, budget_bytes: int) -> Iterator[Work]:
        if writing.serial == 0:
            if self._sort_out(writing):
                yield self._claim(writing)
            return  # Claiming takes as long as a slice, with a large state; and so does the manifest.
        if not writing.to_encode and writing.is_claimed:
            # The Store works in order: chunks that still wait are written before the manifest.
            finish = self._list(writing)
            if finish is not None:
                writing.is_finishing = True
                yield finish
            return
        batch: list[tuple[bytes, bytes]] = []
        batch_bytes = encoded = 0
        while writing.to_encode and encoded < budget_bytes and writing.waiting_bytes < WAITING_BYTES_MAX:
            part = writing.to_encode.popleft()
            if part.is_session:
                data = encode_sessions(writing.sessions[part.place])
                known = None
            else:
                data = writing.frozen.encode(part.place)
                known = writing.frozen.known(part.place)
            digest = chunk_digest(data) if known is None else known[0]
            writing.chunks[part.is_session][part.place] = Chunk(part.place, digest, len(data))
            writing.waiting_bytes += len(data)
            encoded += len(data)
            if batch and batch_bytes + len(data) > WRITE_BYTES:
                yield CheckpointWrite(writing.serial, tuple(batch))
                batch.clear()
                batch_bytes = 0
            batch.append((digest, data))
            batch_bytes += len(data)
        if batch:
            yield CheckpointWrite(writing.serial, tuple(batch))

    def _sort_out(self, writing: _Writing) -> bool:
        """Look at some more of the state, what must be encoded and what is known; return whether that was all."""
        if writing.unsorted is None:
            writing.unsorted = chain(writing.begin.state.sessions, writing.frozen.places)
        entries = list(islice(writing.unsorted, SORTED_PER_SLICE))
        for entry in entries:
            if isinstance(entry, SessionRow):
                writing.sessions.setdefault(session_place(entry.client), []).append(entry)
                continue
            known = writing.frozen.known(entry)
            if known is None:
                writing.to_encode.append(_Part(False, entry))
            else:
                writing.chunks[False][entry] = Chunk(entry, *known)
        return len(entries) < SORTED_PER_SLICE

    def _claim(self, writing: _Writing) -> CheckpointClaim:
        """Begin: all that is known the Store should have."""
        self._last_serial += 1
        writing.serial = self._last_serial
        writing.to_encode.extendleft(_Part(True, place) for place in sorted(writing.sessions, reverse=True))
        digests = frozenset([chunk.digest for chunk in writing.chunks[False].values()])
        return CheckpointClaim(writing.serial, writing.begin.state.op, digests)

    def _list(self, writing: _Writing) -> CheckpointFinish | None:
        """Encode some more of the manifest; return it when it is complete."""
        listing = writing.manifest
        if listing is None:
            manifest = Manifest(
                cluster=writing.begin.cluster,
                state=attrs.evolve(writing.begin.state, sessions=()),
                sessions=tuple(sorted(writing.chunks[True].values())),
                application=tuple(sorted(writing.chunks[False].values())),
            )
            listing = writing.manifest = _Listing(manifest, manifest_pieces(manifest))
        pieces = list(islice(listing.left, MANIFEST_PIECES_PER_SLICE))
        listing.pieces += pieces
        if len(pieces) == MANIFEST_PIECES_PER_SLICE:
            return None
        writing.manifest = None
        data = b"".join(listing.pieces)
        op = writing.begin.state.op
        return CheckpointFinish(writing.serial, manifest_id(op, data), data, listing.manifest)

    def _decode(self, loading: _Loading, budget_bytes: int, inputs: list[Input]) -> Iterator[Work]:
        if not loading.is_asked:
            loading.is_asked = True
            yield InstallRead(loading.target, 0, loading.serial)
            return
        read = loading.read[0]
        manifest = read.manifest
        end = read.start + len(read.chunks)
        is_last = end == len(manifest.chunks)
        if loading.decoded == 0 and not is_last:
            yield InstallRead(loading.target, end, loading.serial)  # Read while we decode.
        try:
            while loading.decoded < len(read.chunks) and budget_bytes > 0:
                index, data = read.start + loading.decoded, read.chunks[loading.decoded]
                if index < len(manifest.sessions):
                    loading.rows += decode_sessions(data)
                else:
                    loading.restoring.put(manifest.chunks[index].place, data)
                loading.decoded += 1
                budget_bytes -= len(data)
            if loading.decoded < len(read.chunks):
                return
            loading.read.popleft()
            loading.decoded = 0
            if is_last:
                loading.restoring.finish()
        except RemoteProtocolError as error:
            raise StorageError(
                f"checkpoint of op {loading.target.op}: a verified chunk does not decode ({error}); start the version "
                "of trio-pb that the other replicas run"
            ) from error
        if is_last:
            loading.is_done = True
            inputs.append(Installed(loading.target, with_sessions(manifest, loading.rows), loading.serial))
