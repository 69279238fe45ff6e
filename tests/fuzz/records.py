"""What comes from a disk in any number: the records of journal segments and of packs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from random import Random

from tests.fuzz.harness import Harness
from tests.fuzz.pages import body_of, change_bodies, change_pages, lay_out, of_newer_format, pieces, reseal
from tests.fuzz.wire import mend_prepare_header
from tests.storage.fixtures import INCARNATION, chain
from trio_pb.core.manifest import chunk_digest
from trio_pb.core.prepare import HEADER_SIZE_MAX, Prepare, checksum_of
from trio_pb.errors import DataDirectoryError, RemoteProtocolError
from trio_pb.storage import journal, packs
from trio_pb.storage.page import PAGE_HEAD_SIZE, padded

__all__ = ["HARNESSES"]

STRANGER = b"x" * 16  # Owner of none of these files.
SEGMENT_NONCE = journal.Segment(1, 1).nonce(INCARNATION)
PACK_NONCE = packs.Pack(1).nonce(INCARNATION)


# --- Journal --------------------------------------------------------------------------------------


def check_journal(data: bytes) -> None:
    """A record that was read is the one that is written at that place; no other segment has it."""
    segment = lay_out(pieces(data, journal.MAGIC), journal.RECORD_ALIGNMENT)
    try:
        records = list(journal.scan_segment(segment, SEGMENT_NONCE))
        assert not list(journal.scan_segment(segment, STRANGER))
    except DataDirectoryError:
        return
    end = 0
    for record in records:
        assert record.offset >= end
        assert record.offset % journal.RECORD_ALIGNMENT == 0
        end = record.offset + record.size
        prepare = record.prepare
        written = journal.encode_record(prepare, SEGMENT_NONCE, record.offset)
        head_end = PAGE_HEAD_SIZE + len(prepare.header)
        payload_at = record.offset + journal.RECORD_HEAD_SIZE
        assert segment.startswith(written[:head_end], record.offset)
        assert segment[payload_at : payload_at + len(prepare.payload)] == prepare.payload
        assert journal.read_record(written, SEGMENT_NONCE, record.offset) == record
        assert prepare.checksum == checksum_of(prepare.header)
        with suppress(RemoteProtocolError):  # A journal keeps what it is given: whoever appends has looked into it.
            assert len(prepare.requests()) == prepare.count
    assert end <= padded(len(segment), journal.RECORD_ALIGNMENT)


def journal_seeds() -> Iterator[bytes]:
    """Single records, three of them, and one of a newer format."""
    records = [
        _record(prepare, place * journal.RECORD_ALIGNMENT) for place, prepare in enumerate(chain(3, body_size=12))
    ]
    yield records[0]
    yield b"".join(records)
    yield of_newer_format(records[0], PAGE_HEAD_SIZE + len(chain(1, body_size=12)[0].header))


def _record(prepare: Prepare, offset: int) -> bytes:
    written = journal.encode_record(prepare, SEGMENT_NONCE, offset)
    return written[: journal.RECORD_HEAD_SIZE + len(prepare.payload)]


def change_journal(data: bytes, random: Random) -> bytes:
    """Change a page as a whole, or an item in the header or the payload of its prepare."""
    return change_bodies(data, random, journal.MAGIC, journal.RECORD_HEAD_SIZE)


def repair_journal(data: bytes) -> bytes:
    """Make sizes, digests and seals true, for the places at which the records lie."""
    repaired: list[bytes] = []
    offset = 0
    for piece in pieces(data, journal.MAGIC):
        payload = piece[journal.RECORD_HEAD_SIZE :]
        header = mend_prepare_header(body_of(piece[: journal.RECORD_HEAD_SIZE]), payload)
        whole = (
            piece
            if len(header) > HEADER_SIZE_MAX
            else reseal(
                piece,
                magic=journal.MAGIC,
                owner=SEGMENT_NONCE,
                place=offset,
                head_size=journal.RECORD_HEAD_SIZE,
                body=header,
            )
        )
        repaired.append(whole)
        offset += padded(len(whole), journal.RECORD_ALIGNMENT)
    return b"".join(repaired)


# --- Packs ----------------------------------------------------------------------------------------


def check_packs(data: bytes) -> None:
    """A chunk that was read has the name that it is asked for by, and is the one that is written at that place."""
    pack = lay_out(pieces(data, packs.MAGIC), packs.RECORD_ALIGNMENT)
    try:
        records = list(packs.scan_pack(pack, PACK_NONCE))
        assert not list(packs.scan_pack(pack, STRANGER))
    except DataDirectoryError:
        return
    end = 0
    for offset, record in records:
        assert offset >= end
        assert chunk_digest(record.chunk) == record.digest
        written = packs.encode_record(
            record.digest, record.chunk, nonce=PACK_NONCE, offset=offset, sequence=record.sequence
        )
        end = offset + len(written)
        assert packs.read_record(written, PACK_NONCE, offset) == record
        chunk_at = offset + packs.RECORD_HEAD_SIZE
        assert pack[chunk_at : chunk_at + len(record.chunk)] == record.chunk


def pack_seeds() -> Iterator[bytes]:
    """A chunk, three of them, an empty one."""
    chunks = [b"first chunk", b"second chunk" * 20, b""]
    records: list[bytes] = []
    offset = 0
    for sequence, chunk in enumerate(chunks):
        records.append(_chunk(chunk, offset, sequence))
        offset += packs.record_size(len(chunk))
    yield records[0]
    yield b"".join(records)
    yield of_newer_format(records[0], PAGE_HEAD_SIZE + 40)


def _chunk(chunk: bytes, offset: int, sequence: int) -> bytes:
    digest = chunk_digest(chunk)
    written = packs.encode_record(digest, chunk, nonce=PACK_NONCE, offset=offset, sequence=sequence)
    return written[: packs.RECORD_HEAD_SIZE + len(chunk)]


def change_packs(data: bytes, random: Random) -> bytes:
    """Change pages as wholes."""
    return change_pages(data, random, packs.MAGIC)


def repair_packs(data: bytes) -> bytes:
    """Make names, sizes and seals true."""
    repaired: list[bytes] = []
    offset = 0
    for piece in pieces(data, packs.MAGIC):
        chunk = piece[packs.RECORD_HEAD_SIZE :]
        whole = reseal(
            piece,
            magic=packs.MAGIC,
            owner=PACK_NONCE,
            place=offset,
            head_size=packs.RECORD_HEAD_SIZE,
            body=chunk_digest(chunk) + len(chunk).to_bytes(8, "little"),
        )
        repaired.append(whole)
        offset += padded(len(whole), packs.RECORD_ALIGNMENT)
    return b"".join(repaired)


HARNESSES = (
    Harness(
        name="journal",
        about="records of a journal segment",
        check=check_journal,
        seeds=journal_seeds,
        mutate=change_journal,
        repair=repair_journal,
    ),
    Harness(
        name="packs",
        about="records of a pack of chunks",
        check=check_packs,
        seeds=pack_seeds,
        mutate=change_packs,
        repair=repair_packs,
    ),
)
