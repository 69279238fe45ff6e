"""Reading the packs of a data directory for people: which checkpoints are whole, and what takes up the space.

A chunk counts as live when a checkpoint that the superblock names needs it: the replica's own, or the
newest certified one as far as it is here. Other checkpoints may still be kept for a while, to be served to peers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from trio_pb.core.durable import Superblock
from trio_pb.core.manifest import (
    CHUNK_DIGEST_SIZE,
    CHUNK_SIZE_MAX,
    CoreState,
    Manifest,
    decode_manifest,
    manifest_id,
)
from trio_pb.core.messages import CheckpointId
from trio_pb.errors import RemoteProtocolError
from trio_pb.storage import packs
from trio_pb.storage.disk import Job, ListFiles, read_file
from trio_pb.storage.extents import Layout, PageState, extents
from trio_pb.storage.packs import CHECKPOINT_FOLDER, Pack
from trio_pb.storage.page import Page

__all__ = [
    "CheckpointSurvey",
    "ChunkGap",
    "LocatedChunk",
    "ManifestSurvey",
    "PackSurvey",
    "named_checkpoints",
    "survey_checkpoints",
]

MANIFEST_START = b"\x8a\x01"  # A list of ten, the first of them 1: all other chunks need no second look.


@attrs.frozen
class LocatedChunk:
    """An intact record of a pack."""

    file: str
    offset: int
    size: int  # Of the record, padded, in bytes.
    digest: bytes
    chunk_size: int
    sequence: int  # Of the batch in which it was written.


@attrs.frozen
class ChunkGap:
    """A stretch of a pack without an intact record."""

    file: str
    offset: int
    size: int
    state: PageState
    digest: bytes | None = None  # Of the chunk whose head is intact here, while its bytes are not.
    origin: str = ""  # File and offset that a misplaced record was written for, as far as known.


@attrs.frozen(kw_only=True)
class PackSurvey:
    """One pack file."""

    pack: Pack
    size: int
    chunks: tuple[LocatedChunk, ...]
    gaps: tuple[ChunkGap, ...]


@attrs.frozen(kw_only=True)
class ManifestSurvey:
    """A manifest that is intact, and what is missing of its checkpoint."""

    id: CheckpointId
    size: int  # Bytes of the manifest itself.
    manifest: Manifest
    missing: tuple[bytes, ...]  # Digests of its chunks that no intact record holds.

    @property
    def chunk_bytes(self) -> int:
        """Bytes of its chunks, each counted once."""
        return sum({chunk.digest: chunk.size for chunk in self.manifest.chunks}.values())


@attrs.frozen(kw_only=True)
class CheckpointSurvey:
    """All packs, and the checkpoints in them."""

    packs: tuple[PackSurvey, ...]
    strangers: tuple[str, ...]  # Files in the folder that are no packs.
    manifests: tuple[ManifestSurvey, ...]  # By rising op.
    live: frozenset[bytes]  # Digests that the checkpoints of the superblock need, manifests included.

    @property
    def chunks(self) -> dict[bytes, LocatedChunk]:
        """The newest intact record of each chunk and manifest."""
        newest: dict[bytes, LocatedChunk] = {}
        for pack in self.packs:
            for chunk in pack.chunks:
                known = newest.get(chunk.digest)
                if known is None or known.sequence <= chunk.sequence:
                    newest[chunk.digest] = chunk
        return newest

    def manifest(self, checkpoint: CheckpointId) -> ManifestSurvey | None:
        """The manifest of one checkpoint."""
        return next((it for it in self.manifests if it.id == checkpoint), None)

    def state(self, checkpoint: CheckpointId) -> CoreState | None:
        """What a start finds in `checkpoint`, without its sessions; None when it does not load."""
        found = self.manifest(checkpoint)
        return None if found is None or found.missing else found.manifest.state


def named_checkpoints(image: Superblock | None) -> tuple[CheckpointId, ...]:
    """The checkpoints that a superblock names: the replica's own first, then the newest certified one."""
    if image is None:
        return ()
    return tuple(dict.fromkeys(it for it in (image.checkpoint, image.certified) if it.op > 0))


def survey_checkpoints(cluster: bytes, incarnation: bytes, image: Superblock | None) -> Job[CheckpointSurvey]:
    """Read every pack.

    Raises:
        DataDirectoryError: a newer program wrote one of them.
    """
    names: tuple[str, ...] = yield ListFiles(CHECKPOINT_FOLDER)
    found = [_pack_of(name) for name in names]
    files = sorted(pack for pack in found if pack is not None)
    nonces = {pack.nonce(incarnation): pack.file for pack in files}
    surveys: list[PackSurvey] = []
    manifests: dict[CheckpointId, tuple[int, Manifest]] = {}
    for pack in files:
        data = yield from read_file(pack.file)
        surveys.append(_survey_pack(pack, data, pack.nonce(incarnation), nonces))
        for chunk in surveys[-1].chunks:
            start = chunk.offset + packs.RECORD_HEAD_SIZE
            content = data[start : start + chunk.chunk_size]
            if content.startswith(MANIFEST_START):
                manifest = _as_manifest(content)
                if manifest is not None and manifest.cluster == cluster:
                    manifests[manifest_id(manifest.state.op, content)] = (len(content), manifest)
    present = {chunk.digest for survey in surveys for chunk in survey.chunks}
    named = named_checkpoints(image)
    return CheckpointSurvey(
        packs=tuple(surveys),
        strangers=tuple(f"{CHECKPOINT_FOLDER}/{name}" for name, pack in zip(names, found, strict=True) if pack is None),
        manifests=tuple(
            _survey_manifest(checkpoint, size, manifest, present)
            for checkpoint, (size, manifest) in sorted(manifests.items(), key=lambda it: (it[0].op, it[0].digest))
        ),
        live=frozenset(_live(named, manifests)),
    )


def _live(named: Iterable[CheckpointId], manifests: Mapping[CheckpointId, tuple[int, Manifest]]) -> Iterable[bytes]:
    for checkpoint in named:
        yield checkpoint.digest
        if checkpoint in manifests:
            yield from (chunk.digest for chunk in manifests[checkpoint][1].chunks)


def _survey_manifest(checkpoint: CheckpointId, size: int, manifest: Manifest, present: set[bytes]) -> ManifestSurvey:
    missing = [chunk.digest for chunk in manifest.chunks if chunk.digest not in present]
    return ManifestSurvey(id=checkpoint, size=size, manifest=manifest, missing=tuple(dict.fromkeys(missing)))


def _pack_of(name: str) -> Pack | None:
    pack = Pack(int(name)) if name.isdecimal() else None
    return pack if pack is not None and pack.file == f"{CHECKPOINT_FOLDER}/{name}" else None


def _as_manifest(data: bytes) -> Manifest | None:
    try:
        return decode_manifest(data)
    except RemoteProtocolError:
        return None


def _survey_pack(pack: Pack, data: bytes, nonce: bytes, nonces: Mapping[bytes, str]) -> PackSurvey:
    """Every record and every gap of one pack."""

    def read(offset: int) -> tuple[packs.Record, int] | None:
        record = packs.read_record(data, nonce, offset, offset)
        return None if record is None else (record, packs.record_size(len(record.chunk)))

    layout = Layout(packs.MAGIC, nonce, packs.RECORD_ALIGNMENT, read, _size_from_head)
    chunks: list[LocatedChunk] = []
    gaps: list[ChunkGap] = []
    for extent in extents(data, layout):
        record = extent.record
        if record is not None:
            place = (pack.file, extent.offset, extent.size)
            chunks.append(LocatedChunk(*place, record.digest, len(record.chunk), record.sequence))
        else:
            digest = None if extent.head is None else extent.head.body[:CHUNK_DIGEST_SIZE]
            home = nonces.get(extent.owner)
            origin = "" if home is None else f"{home} offset {extent.place}"
            gaps.append(ChunkGap(pack.file, extent.offset, extent.size, extent.state, digest, origin))
    return PackSurvey(pack=pack, size=len(data), chunks=tuple(chunks), gaps=tuple(gaps))


def _size_from_head(head: Page) -> int | None:
    """Padded size of the record with this head, wherever it was meant for."""
    size = int.from_bytes(head.body[CHUNK_DIGEST_SIZE:], "little")
    return packs.record_size(size) if size <= CHUNK_SIZE_MAX else None
