"""Reading a data directory for people: what stands in every file, intact or not, and nothing changed.

A replica that opens its directory keeps only what it can use. Here every copy, page and record keeps
its state, so that a person sees what was damaged, where, and what a start would make of it. All jobs
yield only `Read` and `ListFiles`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from trio_pb.core.durable import Proof, RecordHeader, Scan, Superblock
from trio_pb.core.manifest import CoreState
from trio_pb.core.prepare import Prepare, PrepareId, parse_header
from trio_pb.core.recovery import Recovered, recover
from trio_pb.errors import RemoteProtocolError, StorageError
from trio_pb.storage import identity as identity_file
from trio_pb.storage import journal, proofs, superblock
from trio_pb.storage.disk import Job, ListFiles, Read, read_file
from trio_pb.storage.extents import Layout, PageState, extents, judge_page
from trio_pb.storage.identity import IDENTITY_FILE, Identity, read_identity
from trio_pb.storage.inspect_checkpoints import CheckpointSurvey, named_checkpoints, survey_checkpoints
from trio_pb.storage.journal import LOG_FOLDER, SPARE_FILE, Segment, read_record
from trio_pb.storage.page import Page, open_page
from trio_pb.storage.proofs import PROOFS_FILE
from trio_pb.storage.superblock import SUPERBLOCK_FILE

__all__ = [
    "Gap",
    "IdentityCopy",
    "Located",
    "ProofCopy",
    "SegmentSurvey",
    "SuperblockCopy",
    "Survey",
    "proof_offset",
    "read_prepare",
    "survey",
]


@attrs.frozen
class IdentityCopy:
    """One copy of the identity."""

    offset: int
    is_intact: bool


@attrs.frozen
class SuperblockCopy:
    """One copy of the image."""

    offset: int
    state: PageState
    sequence: int = 0
    image: Superblock | None = None  # None unless intact.


@attrs.frozen
class ProofCopy:
    """One copy of one slot."""

    slot: int
    copy: int
    offset: int
    state: PageState
    proof: Proof | None = None  # None unless intact.


@attrs.frozen
class Located:
    """An intact record, and where it lies."""

    file: str
    offset: int
    size: int  # Padded, in bytes.
    header: RecordHeader

    @property
    def id(self) -> PrepareId:
        """The prepare that it holds."""
        return PrepareId(self.header.op, self.header.checksum)


@attrs.frozen
class Gap:
    """Pages of a segment without an intact record, up to the last page that holds a byte."""

    file: str
    offset: int
    size: int
    state: PageState
    id: PrepareId | None = None  # Of the record whose head is intact here, while its payload is not.
    origin: str = ""  # File and offset that a misplaced record was written for, as far as known.
    after: int | None = None  # Op of the intact record before it in the file.
    before: int | None = None  # Op of the intact record behind it.


@attrs.frozen(kw_only=True)
class SegmentSurvey:
    """One file of the log."""

    segment: Segment
    size: int
    used: int  # Bytes up to the end of the last page that is not blank.
    records: tuple[Located, ...]
    gaps: tuple[Gap, ...]


@attrs.frozen(kw_only=True)
class Survey:
    """All of a data directory."""

    identity: Identity
    identity_copies: tuple[IdentityCopy, ...]
    superblock: tuple[SuperblockCopy, ...]
    image: Superblock | None  # None: the disk is lost.
    image_sequence: int
    proofs: tuple[ProofCopy, ...]
    proof: Proof | None  # The newest; None: amnesia.
    segments: tuple[SegmentSurvey, ...]
    strangers: tuple[str, ...]  # Files in the folder of the log that are no part of it.
    checkpoints: CheckpointSurvey
    recovered: Recovered | None  # The log that a start would find; None when it would not start.
    refusal: str  # Why a replica would not start here, "" if it would.

    @property
    def records(self) -> dict[PrepareId, Located]:
        """The newest intact record of each prepare, as a replica would read it."""
        return {record.id: record for segment in self.segments for record in segment.records}

    @property
    def ops(self) -> dict[int, bytes | None]:
        """The ops of the log with the checksum of what stands there, as far as it can be told.

        Below a damaged record that is older than the checksums in the proofs, a start knows no identities, and asks
        its peers for them. The chain from below and the only record of an op tell the same, without a promise.
        """
        if self.recovered is None:
            return {}
        log = self.recovered.log
        by_op: dict[int, list[RecordHeader]] = {}
        for record in self.records.values():
            by_op.setdefault(record.header.op, []).append(record.header)
        below = log.checksum(log.base.op)
        told: dict[int, bytes | None] = {}
        for op in range(log.base.op + 1, log.head + 1):
            checksum = log.checksum(op)
            if checksum is None:
                candidates = by_op.get(op, [])
                linked = [it for it in candidates if it.parent == below] or candidates
                newest = max(linked, key=lambda it: it.view, default=None)
                checksum = None if newest is None else newest.checksum
            told[op] = below = checksum
        return told

    @property
    def unidentified(self) -> int:
        """How many ops of the log a start would have to ask the identity of."""
        if self.recovered is None:
            return 0
        log = self.recovered.log
        return sum(log.checksum(op) is None for op in range(log.base.op + 1, log.head + 1))

    @property
    def missing(self) -> frozenset[int]:
        """Ops of the log without an intact record."""
        records = self.records
        return frozenset(op for op, it in self.ops.items() if it is None or PrepareId(op, it) not in records)


def survey() -> Job[Survey]:
    """Read everything.

    Raises:
        DataDirectoryError: not a data directory, a newer one, or its identity is lost.
    """
    identity = yield from read_identity()
    identity_copies = yield from _read_identity_copies()
    copies = yield from _read_superblock(identity)
    image, image_sequence = _choose(copies)
    slots = yield from _read_proofs(identity)
    newest = max((copy.proof for copy in slots if copy.proof is not None), key=lambda p: p.sequence, default=None)
    segments, strangers = yield from _read_log(identity)
    checkpoints = yield from survey_checkpoints(identity.cluster, identity.incarnation, image)
    # As a start does: its own newest, else the certified one.
    state = next(filter(None, map(checkpoints.state, named_checkpoints(image))), None)
    recovered, refusal = _recover(identity, image, newest, segments, state)
    return Survey(
        identity=identity,
        identity_copies=identity_copies,
        superblock=copies,
        image=image,
        image_sequence=image_sequence,
        proofs=slots,
        proof=newest,
        segments=segments,
        strangers=strangers,
        checkpoints=checkpoints,
        recovered=recovered,
        refusal=refusal,
    )


def read_prepare(record: Located, identity: Identity) -> Job[Prepare | None]:
    """Read a record that a survey found; None when it is no longer there."""
    segment = segment_of(record.file)
    assert segment is not None, "records lie in segments"
    data: bytes = yield Read(record.file, record.offset, record.size)
    found = read_record(data, segment.nonce(identity.incarnation), record.offset)
    return None if found is None or found.prepare.id != record.id else found.prepare


def segment_of(file: str) -> Segment | None:
    """The segment that a path names, None when it names something else."""
    folder, _, name = file.partition("/")
    number, _, boot = name.partition("-")
    if folder != LOG_FOLDER or not (number.isdecimal() and boot.isdecimal()):
        return None
    segment = Segment(int(number), int(boot))
    return segment if segment.file == file else None


def proof_offset(slot: int, copy: int) -> int:
    """Where a copy of a proof slot begins."""
    return copy * proofs.COPY_DISTANCE + slot * proofs.COPY_SIZE


def _read_identity_copies() -> Job[tuple[IdentityCopy, ...]]:
    copies: list[IdentityCopy] = []
    for offset in identity_file.COPY_OFFSETS:
        data: bytes = yield Read(IDENTITY_FILE, offset, identity_file.COPY_SIZE)
        copies.append(IdentityCopy(offset, identity_file.decode(data) is not None))
    return tuple(copies)


def _read_superblock(identity: Identity) -> Job[tuple[SuperblockCopy, ...]]:
    copies: list[SuperblockCopy] = []
    size, owner = superblock.COPY_SIZE, identity.incarnation
    for index in range(superblock.COPIES):
        offset = index * size
        data: bytes = yield Read(SUPERBLOCK_FILE, offset, size)
        state = judge_page(data, size=size, magic=superblock.MAGIC, owner=owner, place=index)
        page = open_page(data, magic=superblock.MAGIC, owner=owner, place=index)
        image = None if page is None else superblock.decode(page.body)
        if page is None or image is None:
            copies.append(SuperblockCopy(offset, PageState.DAMAGED if state is PageState.INTACT else state))
        else:
            copies.append(SuperblockCopy(offset, state, page.sequence, image))
    return tuple(copies)


def _choose(copies: tuple[SuperblockCopy, ...]) -> tuple[Superblock | None, int]:
    """The image that opening would choose, and its sequence."""
    pairs = [
        None if copy.image is None else superblock.Copy(copy.sequence, superblock.encode(copy.image)) for copy in copies
    ]
    chosen = superblock.choose(pairs)
    return (None, 0) if chosen is None else (superblock.decode(chosen.image), chosen.sequence)


def _read_proofs(identity: Identity) -> Job[tuple[ProofCopy, ...]]:
    copies: list[ProofCopy] = []
    size, owner = proofs.COPY_SIZE, identity.incarnation
    for slot in range(proofs.SLOTS):
        for copy in range(proofs.COPIES):
            offset, place = proof_offset(slot, copy), slot * proofs.COPIES + copy
            data: bytes = yield Read(PROOFS_FILE, offset, size)
            state = judge_page(data, size=size, magic=proofs.MAGIC, owner=owner, place=place)
            page = open_page(data, magic=proofs.MAGIC, owner=owner, place=place)
            proof = None if page is None else proofs.decode(page.body)
            if state is PageState.INTACT and proof is None:
                state = PageState.DAMAGED
            copies.append(ProofCopy(slot, copy, offset, state, proof))
    return tuple(copies)


# --- The log --------------------------------------------------------------------------------------


def _read_log(identity: Identity) -> Job[tuple[tuple[SegmentSurvey, ...], tuple[str, ...]]]:
    names: tuple[str, ...] = yield ListFiles(LOG_FOLDER)
    files = [f"{LOG_FOLDER}/{name}" for name in names]
    segments = sorted(segment for file in files if (segment := segment_of(file)) is not None)
    known = {segment.file for segment in segments} | {SPARE_FILE}
    nonces = {segment.nonce(identity.incarnation): segment.file for segment in segments}
    surveys: list[SegmentSurvey] = []
    for segment in segments:
        data = yield from read_file(segment.file)
        surveys.append(_survey_segment(segment, data, segment.nonce(identity.incarnation), nonces))
    return tuple(surveys), tuple(file for file in files if file not in known)


def _survey_segment(segment: Segment, data: bytes, nonce: bytes, nonces: Mapping[bytes, str]) -> SegmentSurvey:
    """Every record and every gap of one segment."""

    def read(offset: int) -> tuple[journal.Record, int] | None:
        record = journal.read_record(data, nonce, offset, offset)
        return None if record is None else (record, record.size)

    layout = Layout(journal.MAGIC, nonce, journal.RECORD_ALIGNMENT, read, _size_from_head)
    records: list[Located] = []
    gaps: list[Gap] = []
    used = 0
    for extent in extents(data, layout):
        used = extent.offset + extent.size
        if extent.record is not None:
            prepare = extent.record.prepare
            header = RecordHeader(prepare.op, prepare.checksum, prepare.parent, prepare.view, prepare.commit)
            records.append(Located(segment.file, extent.offset, extent.size, header))
        else:
            prepare_id = None if extent.head is None else _id_from_head(extent.head)
            home = nonces.get(extent.owner)
            origin = "" if home is None else f"{home} offset {extent.place}"
            after = records[-1].header.op if records else None
            gaps.append(Gap(segment.file, extent.offset, extent.size, extent.state, prepare_id, origin, after))
    return SegmentSurvey(
        segment=segment,
        size=len(data),
        used=used,
        records=tuple(records),
        gaps=tuple(_with_next_op(gaps, records)),
    )


def _with_next_op(gaps: list[Gap], records: list[Located]) -> Iterator[Gap]:
    for gap in gaps:
        behind = next((record.header.op for record in records if record.offset > gap.offset), None)
        yield attrs.evolve(gap, before=behind)


def _size_from_head(head: Page) -> int | None:
    """Padded size of the record with this head, wherever it was meant for."""
    try:
        _, payload_size, _ = parse_header(head.body)
    except RemoteProtocolError:
        return None
    return -(-(journal.RECORD_HEAD_SIZE + payload_size) // journal.RECORD_ALIGNMENT) * journal.RECORD_ALIGNMENT


def _id_from_head(head: Page) -> PrepareId | None:
    try:
        return parse_header(head.body)[0].id
    except RemoteProtocolError:
        return None


def _recover(
    identity: Identity,
    image: Superblock | None,
    proof: Proof | None,
    segments: tuple[SegmentSurvey, ...],
    state: CoreState | None,
) -> tuple[Recovered | None, str]:
    """What a start would make of it: the log, or the words with which it would refuse."""
    if image is None:
        return None, f"disk lost: no two of the {superblock.COPIES} copies of the superblock are intact and agree"
    if (image.cluster, image.replica, image.incarnation) != (
        identity.cluster,
        identity.replica,
        identity.incarnation,
    ):
        return None, (
            f"files of several replicas were mixed: the superblock belongs to replica {image.replica} of cluster "
            f"{image.cluster.hex()}"
        )
    headers = tuple(record.header for segment in segments for record in segment.records)
    try:
        return recover(image, Scan(proof, bool(segments), headers), state), ""
    except StorageError as error:
        return None, str(error)
