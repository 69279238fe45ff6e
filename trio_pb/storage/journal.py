"""The journal: a bag of prepares in append-only segments (PROTOCOL 2.3).

A record is looked up by its PrepareId, never by its position, so leftovers and duplicates are
harmless. Each boot appends to a segment of its own. A segment's nonce and a record's own offset,
both under the record's seal, expose data that lies where it was not written (T-17).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

from trio_pb.core.durable import RecordHeader
from trio_pb.core.prepare import CHECKSUM_SIZE, HEADER_SIZE_MAX, Prepare, PrepareId, checksum_of, parse_header
from trio_pb.errors import DiskFullError, RemoteProtocolError
from trio_pb.storage.disk import Allocate, Flush, Job, ListFiles, Read, Remove, Rename, Write, read_file
from trio_pb.storage.page import PAGE_HEAD_SIZE, open_page, padded, seal_page

__all__ = ["LOG_FOLDER", "SEGMENT_SIZE", "Journal", "Record", "Segment", "encode_record", "read_record", "scan_segment"]

LOG_FOLDER = "log"

# Small enough that the restarts of a busy replica waste little, each beginning a segment of its own, and
# that opening, which holds one whole segment in memory, stays modest; large enough that files are few.
SEGMENT_SIZE = 16 << 20

# Zero-filling 16 MiB at once took 16 to 44 ms (SSD, ext4), at about the same moment on all replicas.
SPARE_SLICES = 16
SPARE_FILE = f"{LOG_FOLDER}/spare"  # Becomes a segment, by rename, when it is whole.

MAGIC = b"TPBRECRD"
RECORD_HEAD_SIZE = 512  # One sector: head and seal are written or lost as one.
RECORD_ALIGNMENT = 4096  # No later write shares a page with a finished record.
assert PAGE_HEAD_SIZE + HEADER_SIZE_MAX <= RECORD_HEAD_SIZE

_ZEROS = bytes(1 << 16)
_SEGMENT_NAME = re.compile(r"(\d{8,12})-(\d{8,12})")


class Segment(NamedTuple):
    """One file of the journal."""

    number: int  # Unique in a data directory, ascending with age.
    boot: int  # That appends to it.

    @property
    def file(self) -> str:
        """Path in the data directory."""
        return f"{LOG_FOLDER}/{self.number:08d}-{self.boot:08d}"

    def nonce(self, incarnation: bytes) -> bytes:
        """16 bytes that the records of no other segment carry."""
        text = b"segment %d %d" % (self.number, self.boot)
        return blake2b(text, digest_size=CHECKSUM_SIZE, key=incarnation).digest()


class Record(NamedTuple):
    """An intact record within a segment."""

    offset: int
    size: int  # Padded, in bytes.
    prepare: Prepare


class Location(NamedTuple):
    """Where the newest record of a prepare lies."""

    segment: Segment
    offset: int
    payload_size: int  # Bytes.

    @property
    def size(self) -> int:
        """Of the record, padded, in bytes."""
        return padded(RECORD_HEAD_SIZE + self.payload_size, RECORD_ALIGNMENT)

    @property
    def end(self) -> int:
        """Offset behind the record."""
        return self.offset + self.size


def record_size(prepare: Prepare) -> int:
    """Bytes that the record takes up on disk."""
    return padded(RECORD_HEAD_SIZE + len(prepare.payload), RECORD_ALIGNMENT)


def encode_record(prepare: Prepare, nonce: bytes, offset: int) -> bytes:
    """Return the bytes of a record that is to lie at `offset` of the segment with `nonce`."""
    head = seal_page(
        size=RECORD_HEAD_SIZE, magic=MAGIC, owner=nonce, place=offset, sequence=prepare.op, body=prepare.header
    )
    return (head + prepare.payload).ljust(record_size(prepare), b"\0")


def read_record(data: bytes, nonce: bytes, offset: int, start: int = 0) -> Record | None:
    """Return the record at `start` of `data`, or None when it is damaged or was not written for `offset`.

    Takes any bytes whatever; those after the record's end are not looked at.
    """
    page = open_page(data[start : start + RECORD_HEAD_SIZE], magic=MAGIC, owner=nonce, place=offset)
    if page is None:
        return None
    try:
        prepare, payload_size, digest = parse_header(page.body)
    except RemoteProtocolError:
        return None
    if page.sequence != prepare.op:
        return None  # Nothing that we write: its head and its header name two ops.
    # As `prepare.parse` does, which would decode the header a second time: half the time of a scan.
    size = RECORD_HEAD_SIZE + payload_size
    payload = data[start + RECORD_HEAD_SIZE : start + size]
    if len(payload) != payload_size or checksum_of(payload) != digest:
        return None
    return Record(offset, padded(size, RECORD_ALIGNMENT), prepare.with_payload(payload))


def _holds_record(data: bytes, nonce: bytes, prepare_id: PrepareId, location: Location, start: int) -> bool:
    """Whether `data` has the record of that prepare, intact, at `start`.

    The header, once its checksum is that of the prepare, need not be read to know the payload's digest.
    """
    page = open_page(data[start : start + RECORD_HEAD_SIZE], magic=MAGIC, owner=nonce, place=location.offset)
    if page is None or checksum_of(page.body) != prepare_id.checksum:
        return False
    payload = data[start + RECORD_HEAD_SIZE : start + RECORD_HEAD_SIZE + location.payload_size]
    return checksum_of(payload) == page.body[-CHECKSUM_SIZE:]


def scan_segment(data: bytes, nonce: bytes) -> Iterator[Record]:
    """Yield every intact record of a whole segment; damage is skipped, whatever follows it (R-SCAN 3, T-13)."""
    offset = 0
    while offset < len(data):
        if data.startswith(_ZEROS, offset):
            # Nothing was written here, or it was lost: look further at the speed of memory.
            offset += len(_ZEROS)
            continue
        record = read_record(data, nonce, offset, offset)
        if record is None:
            offset += RECORD_ALIGNMENT
        else:
            yield record
            offset += record.size


class Journal:
    """The segments on disk and the bag of what they hold."""

    def __init__(self, incarnation: bytes, segment_size: int) -> None:
        assert segment_size > 0
        assert segment_size % RECORD_ALIGNMENT == 0, "a segment is a whole number of pages"
        self._incarnation = incarnation
        self._segment_size = segment_size
        self._boot = 0
        self._bag: dict[PrepareId, Location] = {}
        self._tops: dict[Segment, int] = {}  # By age; the highest op in each file that may hold records, 0: none known.
        self._blank: list[tuple[Segment, int]] = []  # The newest ones found by `read`, with sizes, if all zeros.
        self._current: Segment | None = None  # Takes the appends; None until the first one of a lost log.
        self._current_size = 0
        self._nonce = b""  # Of the current segment.
        self._offset = 0  # Of the next record in it.
        self._spare: Segment | None = None  # Zero-filled and ready to follow the current one.
        self._spare_filled = 0  # Bytes of the spare file that are zero-filled, while there is no `_spare`.
        self._last_number = 0  # Highest segment number in use.
        self._slice_size = padded(segment_size // SPARE_SLICES, RECORD_ALIGNMENT)

    @property
    def spare_is_due(self) -> bool:
        """The next segment should grow by a slice when there is nothing better to do."""
        return self._spare is None and self._spare_filled < self._offset

    @property
    def spare_is_late(self) -> bool:
        """The next segment should grow by a slice now, or an append will have to wait for all of it."""
        return self._spare is None and self._spare_filled + self._slice_size < self._offset

    def format(self) -> Job[None]:
        """Make the first segment, of boot 0; it never takes a record: boot 1 takes the file over."""
        yield Allocate(Segment(1, 0).file, self._segment_size)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Those that may hold records, oldest first."""
        return tuple(self._tops)

    @property
    def is_lost(self) -> bool:
        """There is no segment at all, so the next boot would be one of amnesia."""
        return not self._tops

    @property
    def wants_spare(self) -> bool:
        """Appends will need a next segment that does not exist yet. A lost log does not want one."""
        return self._spare is None and self._current is not None

    def settle(self) -> Job[None]:
        """Flush all segments, so that none has anything that only a cache holds when `scan` reads it.

        A copy of an acknowledged record, fetched from a peer, may have been written and not flushed when the
        process died, and after a flush that failed the cache shows it as clean. Read from there it would pass
        for durable, since the proof of that op was written long ago.
        """
        names: tuple[str, ...] = yield ListFiles(LOG_FOLDER)
        for segment in sorted(segment for name in names if (segment := _parse_name(name)) is not None):
            yield Flush(segment.file)

    def scan(self) -> Job[tuple[bool, tuple[RecordHeader, ...]]]:
        """Read all segments; returns whether there is any, and the headers of all intact records.

        Raises:
            DataDirectoryError: a newer program wrote one of them.
        """
        names: tuple[str, ...] = yield ListFiles(LOG_FOLDER)
        found: list[RecordHeader] = []
        for segment in sorted(segment for name in names if (segment := _parse_name(name)) is not None):
            data = yield from read_file(segment.file, is_from_device=True)
            self._tops[segment] = 0
            for record in scan_segment(data, segment.nonce(self._incarnation)):
                prepare = record.prepare
                self._note(prepare, Location(segment, record.offset, len(prepare.payload)))
                found.append(RecordHeader(prepare.op, prepare.checksum, prepare.parent, prepare.view, prepare.commit))
            if _is_blank(data):
                self._blank.append((segment, len(data)))
            else:
                self._blank.clear()
        return bool(self._tops), tuple(found)

    def begin(self, boot: int) -> Job[None]:
        """Make room for the appends of `boot`, in a segment that holds nothing else (R-SCAN 6)."""
        self._boot = boot
        yield Remove(SPARE_FILE)  # Of an unknown length; it holds nothing.
        if self._tops:
            self._last_number = max(segment.number for segment in self._tops)
            yield from self._begin_boot(self._blank)
        # With no segment at all the log is lost, and stays so (amnesia, PROTOCOL 7.1 step 2) until the
        # core appends or proves something: a fresh empty segment would hide the loss from the next boot.

    def replace_lost(self) -> Job[bool]:
        """Begin a log where all of it was lost, before a proof says what this replica is bound to now.

        Returns whether there is a log: False where there is no room for one.
        """
        try:
            if self.is_lost:
                yield from self._next_segment(0)
        except DiskFullError:
            return False
        return True

    def append(self, prepares: Sequence[Prepare]) -> Job[int]:
        """Write the records in order, consecutive ones as one, and flush (R-STORE 1 and 2).

        Returns how many of them are durable: all, or fewer when there was no room for a new segment.
        """
        joined: list[bytes] = []
        start = self._offset
        for count, prepare in enumerate(prepares):
            size = record_size(prepare)
            if self._current is None or self._offset + size > self._current_size:
                yield from self._write_out(joined, start)
                try:
                    yield from self._next_segment(size)
                except DiskFullError:
                    return count
                joined = []
                start = 0
            assert self._current is not None
            joined.append(encode_record(prepare, self._nonce, self._offset))
            self._note(prepare, Location(self._current, self._offset, len(prepare.payload)))
            self._offset += size
        yield from self._write_out(joined, start)
        return len(prepares)

    def read(self, prepare_id: PrepareId) -> Job[Prepare | None]:
        """Return a prepare of the bag, or None when it is missing or its record is damaged."""
        location = self._bag.get(prepare_id)
        if location is None:
            return None
        data: bytes = yield Read(location.segment.file, location.offset, location.size)
        record = read_record(data, location.segment.nonce(self._incarnation), location.offset)
        return None if record is None or record.prepare.id != prepare_id else record.prepare

    def size_of(self, prepare_id: PrepareId) -> int:
        """Bytes that `read` will take from disk."""
        location = self._bag.get(prepare_id)
        return 0 if location is None else location.size

    def extend_spare(self) -> Job[None]:
        """Zero-fill a slice of the next segment, in step with the appends: short pauses, not one long one.

        Raises:
            DiskFullError: no room; the slices before it stay.
        """
        assert self._spare is None
        size = min(self._slice_size, self._segment_size - self._spare_filled)
        if size:  # Else only the rename found no room.
            yield Write(SPARE_FILE, self._spare_filled, bytes(size))
            yield Flush(SPARE_FILE)
            self._spare_filled += size
        if self._spare_filled == self._segment_size:
            segment = self._new_segment()
            yield Rename(SPARE_FILE, segment.file)
            self._spare = segment
            self._spare_filled = 0

    # --- Forgetting and verifying ---------------------------------------------------------------

    def oldest_below(self, wal_low: int) -> Segment | None:
        """Return the oldest segment all of whose records are of ops below `wal_low`, None when there is none.

        Never the newest one nor the one in use. Where no record is readable, the next readable segment
        speaks for it: ops rise with age, nearly.
        """
        newest = next(reversed(self._tops), None)
        unreadable: Segment | None = None
        for segment, top in self._tops.items():
            if segment in (self._current, newest):
                break
            if top == 0:
                unreadable = unreadable or segment
            elif top < wal_low:
                return unreadable or segment
            else:
                unreadable = None
        return None

    def remove(self, segment: Segment) -> Job[None]:
        """Forget a segment and every record that is only in there."""
        assert segment != self._current
        self._forget(segment)
        yield Remove(segment.file)

    def find_vanished(self) -> Job[tuple[PrepareId, ...]]:
        """Look whether all files are still there; returns what was in lost ones, and has left the bag (scrub)."""
        names: tuple[str, ...] = yield ListFiles(LOG_FOLDER)
        present = {_parse_name(name) for name in names}
        lost: list[PrepareId] = []
        for segment in [it for it in self._tops if it not in present]:
            lost += self._forget(segment)
            yield Remove(segment.file)  # A disk may still hold it open.
        if self._current not in present:
            self._current = None  # The next append begins another.
            self._offset = 0
        if self._spare not in present:
            self._spare = None
        if self._spare_filled and SPARE_FILE.removeprefix(f"{LOG_FOLDER}/") not in names:
            self._spare_filled = 0
            yield Remove(SPARE_FILE)
        return tuple(lost)

    def locations(self, segment: Segment) -> list[tuple[PrepareId, Location]]:
        """Return where the bag's records in `segment` lie, by offset."""
        found = [(prepare_id, it) for prepare_id, it in self._bag.items() if it.segment == segment]
        return sorted(found, key=lambda item: item[1].offset)

    def verify(self, records: Sequence[tuple[PrepareId, Location]]) -> Job[tuple[PrepareId, ...]]:
        """Read neighbours in one segment once more; those that are damaged leave the bag and are returned (scrub)."""
        if not records:
            return ()
        start, last = records[0][1].offset, records[-1][1]
        data: bytes = yield Read(last.segment.file, start, last.end - start)
        nonce = last.segment.nonce(self._incarnation)
        damaged: list[PrepareId] = []
        for prepare_id, location in records:
            if self._bag.get(prepare_id) != location:
                continue  # Appended again elsewhere, or collected.
            if not _holds_record(data, nonce, prepare_id, location, location.offset - start):
                del self._bag[prepare_id]
                damaged.append(prepare_id)
        return tuple(damaged)

    def _forget(self, segment: Segment) -> list[PrepareId]:
        del self._tops[segment]
        forgotten = [it for it, location in self._bag.items() if location.segment == segment]
        for prepare_id in forgotten:
            del self._bag[prepare_id]
        return forgotten

    def _note(self, prepare: Prepare, location: Location) -> None:
        self._bag[prepare.id] = location
        self._tops[location.segment] = max(self._tops[location.segment], prepare.op)

    # --- Segments -------------------------------------------------------------------------------

    def _begin_boot(self, blank: list[tuple[Segment, int]]) -> Job[None]:
        """Take over a blank segment under this boot's name, hence nonce, or make one; drop other blank ones.

        Without this, every restart of an idle replica would leave one more empty segment behind.
        """
        whole = [segment for segment, size in blank if size == self._segment_size]
        try:
            if whole:
                segment = Segment(whole[0].number, self._boot)
                if segment != whole[0]:
                    yield Rename(whole[0].file, segment.file)
                del self._tops[whole[0]]
            else:
                segment = yield from self._allocate(self._segment_size)
        except DiskFullError:
            return  # Everything can be read; the first append looks for room again.
        self._use(segment, self._segment_size)
        # Only now: at no moment may a crash leave the folder without a segment.
        for segment, _ in blank:
            if segment not in whole[:1]:
                del self._tops[segment]
                yield Remove(segment.file)

    def _next_segment(self, record: int) -> Job[None]:
        if record > self._segment_size:
            # Only where segments were made small on purpose: this record gets one of its own size.
            self._use((yield from self._allocate(record)), record)
            return
        while self._spare is None:
            yield from self.extend_spare()
        self._use(self._spare, self._segment_size)
        self._spare = None

    def _allocate(self, size: int) -> Job[Segment]:
        segment = self._new_segment()
        yield Allocate(segment.file, size)
        return segment

    def _new_segment(self) -> Segment:
        self._last_number += 1
        return Segment(self._last_number, self._boot)

    def _use(self, segment: Segment, size: int) -> None:
        self._current = segment
        self._current_size = size
        self._tops[segment] = 0
        self._nonce = segment.nonce(self._incarnation)
        self._offset = 0

    def _write_out(self, joined: list[bytes], start: int) -> Job[None]:
        if joined:
            assert self._current is not None
            yield Write(self._current.file, start, b"".join(joined))
            yield Flush(self._current.file)


def _parse_name(name: str) -> Segment | None:
    match = _SEGMENT_NAME.fullmatch(name)
    if match is None:
        return None
    segment = Segment(int(match[1]), int(match[2]))
    return segment if segment.file == f"{LOG_FOLDER}/{name}" else None


def _is_blank(data: bytes) -> bool:
    return all(data.startswith(_ZEROS[: len(data) - offset], offset) for offset in range(0, len(data), len(_ZEROS)))
