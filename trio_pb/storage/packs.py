"""A bag of chunks in pack files, found by digest: the ground of all checkpoints (PROTOCOL 2.3, 9).

What the journal is to prepares, this is to the chunks and manifests of checkpoints. A record is a
sealed head and the chunk. The nonce of its pack and its own offset, both under the seal, expose data
that lies where it was not written (T-17); its digest, its name, is checked whenever it is read.

Records are written in batches, each flushed before the next one of any pack begins, and numbered in that
order. So of all that is found after a crash only the newest batch may never have reached the device.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

from trio_pb.core.manifest import CHUNK_DIGEST_SIZE, CHUNK_SIZE_MAX, chunk_digest
from trio_pb.core.prepare import CHECKSUM_SIZE
from trio_pb.errors import DiskFullError
from trio_pb.storage.disk import Flush, Job, ListFiles, Read, Remove, Write, read_file
from trio_pb.storage.page import PAGE_HEAD_SIZE, open_page, padded, seal_page

__all__ = ["CHECKPOINT_FOLDER", "PACK_SIZE", "Location", "Pack", "PackWriter", "Packs"]

CHECKPOINT_FOLDER = "checkpoints"

# Opening holds one pack in memory, and freeing space rewrites at most half of one.
PACK_SIZE = 16 << 20

MAGIC = b"TPBCHUNK"
# Most chunks of a small state have a few hundred bytes: sectors of their own would triple its size.
RECORD_HEAD_SIZE = RECORD_ALIGNMENT = 128
BATCH_ALIGNMENT = 4096  # No later write shares a page with a record that was flushed.
_BODY = Struct(f"<{CHUNK_DIGEST_SIZE}sQ")  # Digest and size of the chunk.
assert PAGE_HEAD_SIZE + _BODY.size <= RECORD_HEAD_SIZE

_ZEROS = bytes(1 << 16)
_PACK_NAME = re.compile(r"\d{8,12}")


class Pack(NamedTuple):
    """One file of the bag."""

    number: int  # Unique among those that exist; newer ones have higher numbers.

    @property
    def file(self) -> str:
        """Path in the data directory."""
        return f"{CHECKPOINT_FOLDER}/{self.number:08d}"

    def nonce(self, incarnation: bytes) -> bytes:
        """16 bytes that the records of no other pack carry."""
        return blake2b(b"pack %d" % self.number, digest_size=CHECKSUM_SIZE, key=incarnation).digest()


class Location(NamedTuple):
    """Where the newest record of a chunk lies."""

    pack: Pack
    offset: int
    size: int  # Bytes of the chunk itself.
    sequence: int  # Of its batch.

    @property
    def end(self) -> int:
        """Offset behind the record."""
        return self.offset + record_size(self.size)


class Record(NamedTuple):
    """An intact record within a pack."""

    digest: bytes
    sequence: int
    chunk: bytes


class _Contents:
    """What is known of one pack."""

    __slots__ = ("chunks", "size")

    def __init__(self, size: int) -> None:
        self.size = size  # Bytes of the file.
        self.chunks: dict[bytes, Location] = {}  # Those whose newest record is in here.


def record_size(size: int) -> int:
    """Bytes that the record of a chunk of `size` bytes takes up."""
    return padded(RECORD_HEAD_SIZE + size, RECORD_ALIGNMENT)


def encode_record(digest: bytes, chunk: bytes, *, nonce: bytes, offset: int, sequence: int) -> bytes:
    """Return the bytes of a record that is to lie at `offset` of the pack with `nonce`."""
    body = _BODY.pack(digest, len(chunk))
    head = seal_page(size=RECORD_HEAD_SIZE, magic=MAGIC, owner=nonce, place=offset, sequence=sequence, body=body)
    return (head + chunk).ljust(record_size(len(chunk)), b"\0")


def read_record(data: bytes, nonce: bytes, offset: int, start: int = 0) -> Record | None:
    """Return the record at `start` of `data`, None unless it is intact and was written for `offset`.

    Takes any bytes whatever; those after the record's end are not looked at.
    """
    page = open_page(data[start : start + RECORD_HEAD_SIZE], magic=MAGIC, owner=nonce, place=offset)
    if page is None or len(page.body) != _BODY.size:
        return None
    digest, size = _BODY.unpack(page.body)
    chunk = data[start + RECORD_HEAD_SIZE : start + RECORD_HEAD_SIZE + min(size, CHUNK_SIZE_MAX)]
    if len(chunk) != size or chunk_digest(chunk) != digest:
        return None
    return Record(digest, page.sequence, chunk)


def scan_pack(data: bytes, nonce: bytes) -> Iterator[tuple[int, Record]]:
    """Yield offset and record of every intact one; damage is skipped, whatever follows it (T-13)."""
    offset = 0
    while offset < len(data):
        if data.startswith(_ZEROS, offset):
            offset += len(_ZEROS)
            continue
        record = read_record(data, nonce, offset, offset)
        if record is None:
            offset += RECORD_ALIGNMENT
        else:
            yield offset, record
            offset += record_size(len(record.chunk))


class Packs:
    """The packs on disk and the bag of what they hold."""

    def __init__(self, incarnation: bytes, pack_size: int = PACK_SIZE) -> None:
        assert pack_size >= BATCH_ALIGNMENT
        self.pack_size = pack_size  # Bytes; only a larger chunk makes a larger pack.
        self._incarnation = incarnation
        self._bag: dict[bytes, Location] = {}
        self._packs: dict[Pack, _Contents] = {}  # By age.
        self._writing: set[Pack] = set()
        self._last_number = 0  # Highest in use, or used in this boot.
        self._last_sequence = 0  # Of a batch.
        self._twins: dict[bytes, list[Location]] = {}  # Older places of what `scan` found twice in one batch.

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._bag

    @property
    def packs(self) -> tuple[Pack, ...]:
        """All of them, oldest first."""
        return tuple(self._packs)

    @property
    def finished(self) -> tuple[Pack, ...]:
        """Those that nobody appends to, oldest first."""
        return tuple(pack for pack in self._packs if pack not in self._writing)

    def scan(self) -> Job[None]:
        """Read all packs; damage is skipped.

        Raises:
            DataDirectoryError: a newer program wrote one of them.
        """
        names: tuple[str, ...] = yield ListFiles(CHECKPOINT_FOLDER)
        for pack in sorted(Pack(int(name)) for name in names if _PACK_NAME.fullmatch(name)):
            data = yield from read_file(pack.file)
            self._packs[pack] = _Contents(len(data))
            for offset, record in scan_pack(data, pack.nonce(self._incarnation)):
                known = self._bag.get(record.digest)
                if known is not None and known.sequence == record.sequence:
                    self._twins.setdefault(record.digest, []).append(known)
                if known is None or known.sequence <= record.sequence:
                    self._place(record.digest, Location(pack, offset, len(record.chunk), record.sequence))
                self._last_sequence = max(self._last_sequence, record.sequence)
            self._last_number = pack.number

    def begin(self) -> Job[None]:
        """Make durable what was found: the newest batch may be in the cache of the system only.

        A flush is enough if the last process just died. If a flush of its failed, the system calls the
        batch clean, and only writing it again brings it to the device: elsewhere and under the same number,
        so that a crash in between changes nothing (T-12).
        """
        newest = [(digest, it) for digest, it in self._bag.items() if it.sequence == self._last_sequence]
        for pack in sorted({location.pack for _, location in newest}):
            yield Flush(pack.file)
        chunks: list[tuple[bytes, bytes]] = []
        for digest, _ in newest:
            data = yield from self.get(digest)
            if data is not None:
                chunks.append((digest, data))
        writer = PackWriter(self)
        try:
            yield from writer.write(chunks, sequence=self._last_sequence)
        except DiskFullError:
            yield from writer.discard()
            for digest, _ in newest:  # Only what the device itself shows was flushed.
                if (yield from self.get(digest, is_from_device=True)) is None:
                    yield from self._find_twin(digest)
        writer.close()
        self._twins.clear()
        for pack in sorted({location.pack for _, location in newest}):
            if not self.chunks_in(pack):
                yield from self.remove(pack)

    def _find_twin(self, digest: bytes) -> Job[None]:
        """Fall back on an older copy: the last start may have died while it wrote the batch once more."""
        for location in reversed(self._twins.get(digest, [])):
            self._place(digest, location)
            if (yield from self.get(digest, is_from_device=True)) is not None:
                return

    def get(self, digest: bytes, *, is_from_device: bool = False) -> Job[bytes | None]:
        """Return a chunk, or None when there is none or it is damaged, and then it leaves the bag."""
        location = self._bag.get(digest)
        if location is None:
            return None
        data: bytes = yield Read(
            location.pack.file, location.offset, record_size(location.size), is_from_device=is_from_device
        )
        return self._verified(digest, location, data, location.offset)

    def size_of(self, digest: bytes) -> int:
        """Bytes of a chunk, 0 when there is none."""
        location = self._bag.get(digest)
        return 0 if location is None else location.size

    def file_size(self, pack: Pack) -> int:
        """Bytes of the file; 0 when it was removed."""
        contents = self._packs.get(pack)
        return 0 if contents is None else contents.size

    def chunks_in(self, pack: Pack) -> list[tuple[bytes, Location]]:
        """Return what `pack` is needed for if at all, by offset."""
        contents = self._packs.get(pack)
        return [] if contents is None else sorted(contents.chunks.items(), key=lambda item: item[1].offset)

    def digests_in(self, pack: Pack) -> Collection[bytes]:
        """Return the names of `chunks_in`, in no order."""
        contents = self._packs.get(pack)
        return () if contents is None else contents.chunks.keys()

    def has_all(self, digests: Iterable[bytes]) -> bool:
        """Return whether all of these chunks are here."""
        return all(map(self._bag.__contains__, digests))

    def verify(self, chunks: Sequence[tuple[bytes, Location]]) -> Job[tuple[bytes, ...]]:
        """Read neighbours in one pack once more; those that are damaged leave the bag and are returned (scrub)."""
        chunks = [(digest, location) for digest, location in chunks if self._bag.get(digest) == location]
        if not chunks:
            return ()
        start, last = chunks[0][1].offset, chunks[-1][1]
        data: bytes = yield Read(last.pack.file, start, last.end - start)
        return tuple(digest for digest, it in chunks if self._verified(digest, it, data, start) is None)

    def remove(self, pack: Pack) -> Job[None]:
        """Delete a pack with all that it holds."""
        for digest in self._packs.pop(pack).chunks:
            del self._bag[digest]
        self._writing.discard(pack)
        yield Remove(pack.file)

    # --- For the writer -------------------------------------------------------------------------

    def begin_pack(self) -> tuple[Pack, bytes]:
        """Return a new pack and its nonce; nobody removes it before `finish_pack`."""
        self._last_number += 1
        pack = Pack(self._last_number)
        self._packs[pack] = _Contents(0)
        self._writing.add(pack)
        return pack, pack.nonce(self._incarnation)

    def begin_batch(self) -> int:
        """Return the number of the next batch."""
        self._last_sequence += 1
        return self._last_sequence

    def finish_pack(self, pack: Pack) -> None:
        """Nothing more is appended to `pack`."""
        self._writing.discard(pack)

    def note(self, pack: Pack, chunks: Sequence[tuple[bytes, Location]], size: int) -> None:
        """These chunks are durable; the file has `size` bytes."""
        self._packs[pack].size = size
        for digest, location in chunks:
            self._place(digest, location)

    def _place(self, digest: bytes, location: Location) -> None:
        self._drop(digest)
        self._bag[digest] = location
        self._packs[location.pack].chunks[digest] = location

    def _drop(self, digest: bytes) -> None:
        location = self._bag.pop(digest, None)
        if location is not None:
            del self._packs[location.pack].chunks[digest]

    def _verified(self, digest: bytes, location: Location, data: bytes, start: int) -> bytes | None:
        """Return the chunk from `data`, which begins at `start` of the pack; a damaged one leaves the bag."""
        record = read_record(data, location.pack.nonce(self._incarnation), location.offset, location.offset - start)
        if record is None or record.digest != digest:
            self._drop(digest)
            return None
        return record.chunk


class PackWriter:
    """Appends chunks to packs of its own."""

    def __init__(self, packs: Packs) -> None:
        self.written: list[Pack] = []  # Every pack that it began.
        self._packs = packs
        self._pack: Pack | None = None
        self._nonce = b""
        self._offset = 0  # Where the next batch begins.

    def write(self, chunks: Sequence[tuple[bytes, bytes]], sequence: int | None = None) -> Job[None]:
        """Write (digest, chunk) pairs as one batch, a new one unless given; durable and in the bag when it ends.

        Raises:
            DiskFullError: none of them is in the bag. Writing them again is safe.
        """
        if not chunks:
            return
        size = sum(record_size(len(data)) for _, data in chunks)
        if self._pack is None or (self._offset and self._offset + size > self._packs.pack_size):
            self.close()
            self._pack, self._nonce = self._packs.begin_pack()
            self.written.append(self._pack)
            self._offset = 0
        sequence = self._packs.begin_batch() if sequence is None else sequence
        locations: list[tuple[bytes, Location]] = []
        records: list[bytes] = []
        offset = self._offset
        for digest, data in chunks:
            records.append(encode_record(digest, data, nonce=self._nonce, offset=offset, sequence=sequence))
            locations.append((digest, Location(self._pack, offset, len(data), sequence)))
            offset += len(records[-1])
        end = padded(offset, BATCH_ALIGNMENT)
        yield Write(self._pack.file, self._offset, b"".join(records).ljust(end - self._offset, b"\0"))
        yield Flush(self._pack.file)
        self._offset = end
        self._packs.note(self._pack, locations, end)

    def discard(self) -> Job[None]:
        """Delete every pack that it wrote and that still exists."""
        self._pack = None
        for pack in self.written:
            if pack in self._packs.packs:
                yield from self._packs.remove(pack)

    def close(self) -> None:
        """Let go of the pack: it may be collected like any other."""
        if self._pack is not None:
            self._packs.finish_pack(self._pack)
            self._pack = None
