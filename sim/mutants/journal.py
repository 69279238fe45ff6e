"""Planted bugs: the files of a data directory (PROTOCOL 2.3, 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sim.mutants.mutant import Patch, mutant
from trio_pb.core.durable import Proof
from trio_pb.core.ports import WalAppend
from trio_pb.core.prepare import CHECKSUM_SIZE, Prepare, PrepareId, checksum_of
from trio_pb.storage import journal, packs, page, proofs, store, superblock
from trio_pb.storage.disk import Flush, Job, Read, Step, Write
from trio_pb.storage.proofs import PROOFS_FILE, SLOTS, ProofFile
from trio_pb.storage.superblock import SUPERBLOCK_FILE, SuperblockFile


@mutant(breaks="heal at open (2.3, T-35)", source="the protocol's own model (6.6)", expects=("INV-4", "INV-29"))
def leave_the_superblock(patch: Patch) -> None:
    """Opening does not bring all four copies of the superblock to one image."""

    def wrong(self: SuperblockFile) -> Job[None]:
        found = vars(self)["_found"]
        vars(self)["_next_sequence"] = max(copy.sequence for copy in found if copy is not None) + 1
        yield Flush(SUPERBLOCK_FILE)

    patch.set(SuperblockFile, "heal", wrong)


@mutant(breaks="the slot rule (2.3, T-36)", source="the protocol's own model (6.6)", expects=("INV-29",))
def slot_by_number(patch: Patch) -> None:
    """A proof goes to the slot that its number names."""
    write: Callable[[ProofFile, Proof], Job[None]] = vars(ProofFile)["_write_slot"]

    def wrong(self: ProofFile, proof: Proof) -> Job[None]:
        vars(self)["_slot"] = (proof.sequence - 1) % SLOTS
        yield from write(self, proof)

    patch.set(ProofFile, "_write_slot", wrong)


@mutant(
    breaks="R-STORE 2 (4.2)",
    source="PySyncObj issue 84; barge issue 5",
    expects=("INV-8",),
)
def journal_is_not_flushed(patch: Patch) -> None:
    """Records count as durable when they are written, before any flush."""
    write_out: Callable[..., Job[None]] = vars(journal.Journal)["_write_out"]

    def wrong(self: journal.Journal, joined: list[bytes], start: int) -> Job[None]:
        for step in write_out(self, joined, start):
            if not isinstance(step, Flush):
                yield step

    patch.set(journal.Journal, "_write_out", wrong)


@mutant(
    breaks="2.3: 0,1, flush, 2,3, flush",
    source="the superblock of ext2 before it had copies; Rebello et al., ATC'20",
    expects=("disk refused", "INV-4", "INV-29"),
)
def superblock_all_at_once(patch: Patch) -> None:
    """All four copies of the superblock are written before one flush: a power cut may tear all."""

    def wrong(self: superblock.SuperblockFile, copy: superblock.Copy, *, is_whole: bool) -> Job[None]:
        write: Callable[..., Write] = vars(superblock.SuperblockFile)["_write_copy"]
        for index in range(4):
            yield write(self, index, copy, is_whole=is_whole)
        yield Flush(superblock.SUPERBLOCK_FILE)

    patch.set(superblock.SuperblockFile, "_write_phases", wrong)


@mutant(
    breaks="2.3: the highest sequence that two copies hold",
    source="one valid copy taken for enough",
    expects=("INV-4", "INV-29", "INV-31"),
    equivalent="nothing rests on an image before all four copies hold it, so of two that are each held twice the "
    "older one is as right as the newer",
    pair="oldest-superblock-is-left",
)
def oldest_superblock_wins(patch: Patch) -> None:
    """Of two images that are each held twice, opening takes the older."""

    def wrong(found: Sequence[superblock.Copy | None]) -> superblock.Copy | None:
        twice = [copy for copy in found if copy is not None and found.count(copy) >= 2]
        return min(twice, key=lambda copy: copy.sequence, default=None)

    patch.set(superblock, "choose", wrong)


@mutant(
    breaks="R-STORE 3 (4.2, T-14)",
    source="one flush for record and proof: found by argument while the protocol was written",
    expects=("INV-28", "INV-29", "INV-8"),
)
def proof_before_records(patch: Patch) -> None:
    """A proof is written before the records that it covers are flushed."""
    append: Callable[..., Job[None]] = vars(store.Store)["_append"]

    def wrong(self: store.Store, parts: Any, appends: list[WalAppend]) -> Job[None]:
        held: list[Step] = []
        result: object = None
        job = append(self, parts, appends)
        while True:
            try:
                step = job.send(result)
            except StopIteration:
                break
            result = None
            if isinstance(step, Flush) and step.file != PROOFS_FILE:
                held.append(step)  # Later, when the proof is there.
            else:
                result = yield step
        for step in held:
            yield step

    patch.set(store.Store, "_append", wrong)


@mutant(
    breaks="2.3: own offset and nonce (T-17)",
    source="Bairavasundaram et al., FAST'08: misdirected writes",
    expects=("INV-7", "INV-29", "INV-31", "INV-4", "scrub", "INV-35"),
    equivalent="what lies in the wrong place is whole, and is found by its identity: a record by the prepare that it "
    "names, a proof and an image by their numbers",
    pair="wrong-place-and-wrong-record",
)
def wrong_place_is_not_noticed(patch: Patch) -> None:
    """A page that lies where it was not written is taken for the one that belongs there."""

    def wrong(data: bytes, *, magic: bytes, owner: bytes, place: int) -> page.Page | None:
        if len(data) < page.PAGE_HEAD_SIZE or not data.startswith(magic, CHECKSUM_SIZE):
            return None
        its_owner, its_place = data[CHECKSUM_SIZE + 16 : CHECKSUM_SIZE + 32], data[CHECKSUM_SIZE + 32 :][:8]
        return page.open_page(data, magic=magic, owner=its_owner, place=int.from_bytes(its_place, "little"))

    for module in (journal, proofs, superblock, packs):
        patch.set(module, "open_page", wrong)


@mutant(
    breaks="2.3: every page is sealed (T-13)",
    source="Alagappan et al., FAST'18: lengths that are checked, and bodies that are not",
    expects=("INV-29", "INV-20", "INV-1", "INV-35", "INV-7"),
)
def seals_are_not_checked(patch: Patch) -> None:
    """The header of a record is believed, whatever its checksum says."""

    def wrong(data: bytes, *, magic: bytes, owner: bytes, place: int) -> page.Page | None:
        size = int.from_bytes(data[CHECKSUM_SIZE + 12 : CHECKSUM_SIZE + 16], "little")
        seal = checksum_of(data[CHECKSUM_SIZE : page.PAGE_HEAD_SIZE + size])
        return page.open_page(seal + data[CHECKSUM_SIZE:], magic=magic, owner=owner, place=place)

    patch.set(proofs, "open_page", wrong)
    patch.set(superblock, "open_page", wrong)


@mutant(
    breaks="7.5: a full disk acknowledges nothing",
    source="Ganesan et al., FAST'17: space errors that are swallowed",
    expects=("INV-8", "INV-29", "INV-11", "INV-35"),
)
def full_disk_is_ignored(patch: Patch) -> None:
    """What found no room on the disk is reported as written."""
    append = journal.Journal.append

    def wrong(self: journal.Journal, prepares: Sequence[Prepare]) -> Job[int]:
        yield from append(self, prepares)
        return len(prepares)

    patch.set(journal.Journal, "append", wrong)


@mutant(
    breaks="R-GC: a segment goes when all of it may go (9)",
    source="etcd and Kafka: log segments deleted by the age of their first record",
    expects=("INV-29", "INV-35"),
)
def segment_goes_too_early(patch: Patch) -> None:
    """A segment is removed while some of its records are still needed."""
    oldest = journal.Journal.oldest_below

    def wrong(self: journal.Journal, wal_low: int) -> journal.Segment | None:
        return oldest(self, wal_low + 8)

    patch.set(journal.Journal, "oldest_below", wrong)


@mutant(
    breaks="R-SCAN 3: damage is skipped (7.1, T-13)",
    source="Alagappan et al., FAST'18: LogCabin and ZooKeeper stop at the first bad record",
    expects=("INV-29", "INV-13", "INV-35", "INV-33", "new log"),
    equivalent="what a scan leaves out is missing like any damage, and the watermark says so: it is fetched from the "
    "others, who are a majority that does not decay",
    pair="cut-at-damage",
)
def scan_ends_at_damage(patch: Patch) -> None:
    """Opening reads each segment up to the first record that is damaged."""
    scan = journal.scan_segment

    def wrong(data: bytes, nonce: bytes) -> Iterator[journal.Record]:
        offset = 0
        for record in scan(data, nonce):
            if record.offset != offset:
                return
            yield record
            offset += record.size

    patch.set(journal, "scan_segment", wrong)


@mutant(
    breaks="2.3 (T-35)",
    source="the protocol's own model (6.6)",
    expects=("INV-4", "INV-29", "INV-31", "disk refused"),
)
def oldest_superblock_is_left(patch: Patch) -> None:
    """Opening takes the older of two images, and leaves the copies as they are."""
    oldest_superblock_wins(patch)
    leave_the_superblock(patch)


@mutant(
    breaks="2.3: own offset, nonce and identity (T-17)",
    source="Bairavasundaram et al., FAST'08: misdirected writes",
    expects=("wrong record", "INV-1", "INV-2", "INV-7", "INV-8", "INV-29", "INV-33", "INV-35", "scrub"),
)
def wrong_place_and_wrong_record(patch: Patch) -> None:
    """What lies in the place of a record is taken for it, whatever it is."""
    wrong_place_is_not_noticed(patch)

    def read(self: journal.Journal, prepare_id: PrepareId) -> Job[Prepare | None]:
        location = vars(self)["_bag"].get(prepare_id)
        if location is None:
            return None
        data: bytes = yield Read(location.segment.file, location.offset, location.size)
        record = journal.read_record(data, b"", location.offset)
        return None if record is None else record.prepare

    def holds(data: bytes, nonce: bytes, _id: PrepareId, location: journal.Location, start: int) -> bool:
        return journal.read_record(data, nonce, location.offset, start) is not None

    patch.set(journal.Journal, "read", read)
    patch.set(journal, "_holds_record", holds)
