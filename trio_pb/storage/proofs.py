"""The proof zone: durable promises of how far this replica acknowledged (R-PROOF, R-STORE).

Four slots in rotation, each with two copies far apart in one file. A proof is written over the slot
after the one that holds the newest: a torn write then never touches the newest, however many
sequence numbers were skipped by coalescing (T-36).
"""

from __future__ import annotations

from trio_pb import canonical
from trio_pb.core.durable import Proof
from trio_pb.core.prepare import CHECKSUM_SIZE
from trio_pb.storage.disk import Allocate, Flush, Job, Read, Write
from trio_pb.storage.fields import MalformedError, read_list, read_prepare_id, read_unsigned
from trio_pb.storage.page import open_page, seal_page

__all__ = ["PROOFS_FILE", "ProofFile", "decode", "encode"]

PROOFS_FILE = "proofs"

MAGIC = b"TPBPROOF"
SLOTS = 4
COPIES = 2
COPY_SIZE = 4096
COPY_DISTANCE = 1 << 20  # What damages one copy is unlikely to reach 1 MiB further.
FILE_SIZE = COPY_DISTANCE + SLOTS * COPY_SIZE
CHECKSUMS_MAX = 64


class ProofFile:
    """The proofs on disk. Read and heal, or format; then write."""

    def __init__(self, incarnation: bytes) -> None:
        self._incarnation = incarnation
        self._slot = SLOTS - 1  # Of the newest proof.
        self._proof: Proof | None = None  # The newest.

    def format(self, proof: Proof) -> Job[None]:
        """Make the file with its first proof."""
        yield Allocate(PROOFS_FILE, FILE_SIZE)
        yield from self.write(proof)

    def read(self) -> Job[Proof | None]:
        """Return the newest intact proof; None: amnesia (PROTOCOL 7.3). Nothing may rest on it before `heal`.

        Raises:
            DataDirectoryError: a newer program wrote one of them.
        """
        newest: Proof | None = None
        for slot in range(SLOTS):
            for copy in range(COPIES):
                proof = yield from self._read_copy(slot, copy)
                if proof is not None and (newest is None or proof.sequence > newest.sequence):
                    newest = proof
                    self._slot = slot
        self._proof = newest
        return newest

    def heal(self) -> Job[None]:
        """Make the proof that was read durable in both copies of a slot.

        After a failed flush it may not be on the device, but acts will rest on it: it is written again.
        Into the next slot, since a torn write must not harm the newest.
        """
        if self._proof is not None:
            yield from self._write_slot(self._proof)

    def is_whole(self) -> Job[bool]:
        """Read both copies of the newest proof again; return whether they are intact (scrub).

        The other slots hold nothing that is still needed.
        """
        for copy in range(COPIES):
            proof = yield from self._read_copy(self._slot, copy)
            if proof is None or proof != self._proof:
                return False
        return True

    def write(self, proof: Proof) -> Job[None]:
        """Write a proof newer than all before; durable when the job ends."""
        newest = -1 if self._proof is None else self._proof.sequence
        assert proof.sequence > newest, f"proof {proof.sequence} is not newer than {newest} (R-PROOF)"
        yield from self._write_slot(proof)

    def _write_slot(self, proof: Proof) -> Job[None]:
        self._slot = (self._slot + 1) % SLOTS
        self._proof = proof
        body = encode(proof)
        for copy in range(COPIES):
            page = seal_page(
                size=COPY_SIZE,
                magic=MAGIC,
                owner=self._incarnation,
                place=_place(self._slot, copy),
                sequence=proof.sequence,
                body=body,
            )
            yield Write(PROOFS_FILE, _offset(self._slot, copy), page)
        yield Flush(PROOFS_FILE)

    def _read_copy(self, slot: int, copy: int) -> Job[Proof | None]:
        data: bytes = yield Read(PROOFS_FILE, _offset(slot, copy), COPY_SIZE)
        page = open_page(data, magic=MAGIC, owner=self._incarnation, place=_place(slot, copy))
        return None if page is None else decode(page.body)


def _offset(slot: int, copy: int) -> int:
    return copy * COPY_DISTANCE + slot * COPY_SIZE


def _place(slot: int, copy: int) -> int:
    return slot * COPIES + copy


def encode(proof: Proof) -> bytes:
    """Return the canonical bytes of a proof."""
    count, rest = divmod(len(proof.checksums), CHECKSUM_SIZE)
    assert rest == 0, "checksums of 16 bytes each"
    assert count <= CHECKSUMS_MAX, f"{count} checksums in a proof, at most {CHECKSUMS_MAX}"
    assert proof.commit.op <= proof.acked, "a proof's commit is at or below its watermark"
    # A list: encoding a map costs 11 us more, with every group commit.
    commit = [proof.commit.op, proof.commit.checksum]
    return canonical.encode([proof.sequence, proof.log_view, proof.acked, proof.checksums, commit])


def decode(data: bytes) -> Proof | None:
    """Return the proof, or None when `data` is not the encoding of one. Takes any bytes whatever."""
    try:
        sequence, log_view, acked, checksums, commit = read_list(canonical.decode(data), 5)
        if (
            type(checksums) is not bytes
            or len(checksums) % CHECKSUM_SIZE
            or len(checksums) > CHECKSUMS_MAX * CHECKSUM_SIZE
        ):
            return None
        proof = Proof(
            read_unsigned(sequence), read_unsigned(log_view), read_unsigned(acked), checksums, read_prepare_id(commit)
        )
    except (canonical.CanonicalError, MalformedError):
        return None
    return proof if proof.commit.op <= proof.acked else None
