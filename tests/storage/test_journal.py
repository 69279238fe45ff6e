"""The bag of records: what was written is found, and nothing else is (PROTOCOL 2.3, T-13, T-17)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.crash_disk import CrashDisk
from tests.storage.fixtures import CLUSTER, INCARNATION, SEGMENT_SIZE, chain, open_journal
from trio_pb.core.prepare import OrderedRequest, Prepare, PrepareId, build
from trio_pb.storage.disk import Allocate, Remove, Write, run
from trio_pb.storage.journal import SPARE_FILE, Journal, Segment, encode_record, read_record, scan_segment
from trio_pb.storage.page import seal_page

NONCE = Segment(1, 1).nonce(INCARNATION)


def journal_on(disk: CrashDisk, boot: int = 1) -> Journal:
    """Return an open journal, formatted before if need be."""
    journal = Journal(INCARNATION, SEGMENT_SIZE)
    if not disk.cache:
        run(disk, journal.format())
    run(disk, open_journal(journal, boot))
    return journal


def found_on(disk: CrashDisk, boot: int = 9) -> list[int]:
    """Return the ops of all records that an opening finds, on a copy of the disk."""
    _, records = run(disk.copy(), open_journal(Journal(INCARNATION, SEGMENT_SIZE), boot))
    return [record.op for record in records]


def segments_on(disk: CrashDisk) -> list[str]:
    """Return the names of the segment files."""
    return sorted(name.removeprefix("log/") for name in disk.cache if name not in (SPARE_FILE, "identity"))


def packed(prepares: list[Prepare], nonce: bytes = NONCE) -> bytearray:
    """Return a segment that holds these records from its start."""
    data = bytearray()
    for prepare in prepares:
        data += encode_record(prepare, nonce, len(data))
    return data.ljust(SEGMENT_SIZE * 4, b"\0")


def prepare_of(body: bytes) -> Prepare:
    """Return a prepare that orders one request with this body."""
    request = OrderedRequest(b"p" * 16, 1, 1, 2, body)
    return build(
        cluster=CLUSTER,
        epoch=0,
        view=0,
        op=5,
        parent=b"p" * 16,
        commit=0,
        timestamp=1,
        requests=[request],
        release=1,
    )


def scanned(data: bytes | bytearray) -> list[int]:
    """Return the ops found in a segment."""
    return [record.prepare.op for record in scan_segment(bytes(data), NONCE)]


def test_records_are_found_after_a_restart() -> None:
    """Small and large prepares, over several segments, all come back with what the core needs of them."""
    disk = CrashDisk()
    journal = journal_on(disk)
    small = chain(10)
    prepares = small + chain(5, body_size=9000, after=small[-1])
    run(disk, journal.append(prepares[:4]))
    for prepare in prepares[4:]:
        run(disk, journal.append([prepare]))
    again = Journal(INCARNATION, SEGMENT_SIZE)
    has_log, records = run(disk, open_journal(again, 2))
    assert has_log
    assert [(it.op, it.checksum, it.parent, it.view, it.commit) for it in records] == [
        (it.op, it.checksum, it.parent, it.view, it.commit) for it in prepares
    ]
    assert [run(disk, again.read(prepare.id)) for prepare in prepares] == prepares


def test_a_group_is_one_write() -> None:
    """Consecutive records are joined: one write and one flush for a whole group."""
    disk = CrashDisk()
    journal = journal_on(disk)
    disk.steps.clear()
    run(disk, journal.append(chain(5)))
    assert [type(step).__name__ for step in disk.steps] == ["Write", "Flush"]


def test_segment_is_filled_before_use_and_slice_by_slice() -> None:
    """No record is ever written to a file that was not zero-filled in full, however the group falls (T-13)."""
    disk = CrashDisk()
    journal = journal_on(disk)
    for prepare in chain(40):
        run(disk, journal.append([prepare]))
        if journal.spare_is_due:
            run(disk, journal.extend_spare())
        assert all(len(data) == SEGMENT_SIZE for name, data in disk.cache.items() if name != SPARE_FILE)
    slices = [step for step in disk.steps if isinstance(step, Write) and step.file == SPARE_FILE]
    assert len(slices) >= 4 * 8
    assert all(len(step.data) == 4096 for step in slices)
    assert sum(isinstance(step, Allocate) for step in disk.steps) == 1, "only the one of format"


def test_record_larger_than_a_segment_gets_its_own() -> None:
    """With segments made small on purpose a large prepare still fits somewhere."""
    disk = CrashDisk()
    journal = journal_on(disk)
    first = chain(1)
    large = chain(1, body_size=SEGMENT_SIZE * 2, after=first[0])
    last = chain(1, after=large[0])
    run(disk, journal.append(first + large + last))
    assert found_on(disk) == [1, 2, 3]


def test_each_boot_appends_to_a_segment_of_its_own() -> None:
    """Records of an earlier boot stay alone in their segment (R-SCAN 6)."""
    disk = CrashDisk()
    prepares = chain(3)
    for boot, prepare in enumerate(prepares, start=1):
        run(disk, journal_on(disk, boot).append([prepare]))
    assert segments_on(disk) == ["00000001-00000001", "00000002-00000002", "00000003-00000003"]
    assert found_on(disk) == [1, 2, 3]


def test_idle_restarts_leave_no_segments_behind() -> None:
    """A boot that wrote nothing hands its segment on; nothing is allocated, no segment is ever missing."""
    disk = CrashDisk()
    run(disk, journal_on(disk, 1).append(chain(1)))
    for boot in range(2, 8):
        disk.steps.clear()
        journal_on(disk, boot)
        assert segments_on(disk) == ["00000001-00000001", f"00000002-{boot:08d}"]


def test_blank_segments_are_dropped_only_at_the_end_and_after_their_replacement() -> None:
    """A spare left by a crash goes; a blank segment with records after it is damage and stays."""
    disk = CrashDisk()
    run(disk, journal_on(disk, 1).append(chain(1)))
    for number in (2, 3, 4):
        disk.do(Allocate(Segment(number, 1).file, SEGMENT_SIZE))
    disk.do(Write(Segment(3, 1).file, 0, encode_record(chain(1)[0], Segment(3, 1).nonce(INCARNATION), 0)))
    disk.do(Allocate(Segment(5, 1).file, 4096))
    journal_on(disk, 2)
    assert segments_on(disk) == ["00000001-00000001", "00000002-00000001", "00000003-00000001", "00000004-00000002"]


def test_unusable_blank_segment_is_replaced_before_it_is_removed() -> None:
    """A blank segment of another size gives way to a new one; the folder never is without any (amnesia)."""
    disk = CrashDisk()
    disk.do(Allocate(Segment(1, 1).file, 4096))
    journal = Journal(INCARNATION, SEGMENT_SIZE)
    run(disk, open_journal(journal, 2))
    assert segments_on(disk) == ["00000002-00000002"]
    kinds = [type(step) for step in disk.steps]
    assert kinds.index(Allocate, 1) < len(kinds) - 1 - kinds[::-1].index(Remove)


def test_lost_log_stays_lost_until_the_first_append() -> None:
    """Opening without any segment does not make one: the loss must stay visible (PROTOCOL 7.1, step 2)."""
    disk = CrashDisk()
    assert run(disk, open_journal(Journal(INCARNATION, SEGMENT_SIZE), 3)) == (False, ())
    journal = Journal(INCARNATION, SEGMENT_SIZE)
    assert run(disk, open_journal(journal, 3)) == (False, ())
    run(disk, journal.append(chain(2)))
    assert run(disk, open_journal(Journal(INCARNATION, SEGMENT_SIZE), 4))[0]
    assert found_on(disk) == [1, 2]


@given(st.data())
def test_damage_hides_only_the_records_that_it_hits(data: st.DataObject) -> None:
    """Whatever bytes are flipped, every record that was not hit is found, before and after (T-13)."""
    prepares = chain(3) + chain(2, body_size=9000) + chain(2) + chain(1, body_size=70_000) + chain(2)
    segment = packed(prepares)
    records = list(scan_segment(bytes(segment), NONCE))
    assert len(records) == len(prepares)
    hits = data.draw(st.lists(st.integers(0, records[-1].offset + records[-1].size - 1), max_size=6))
    for position in hits:
        segment[position] ^= 0x55
    untouched = [
        record
        for record in records
        if not any(record.offset <= hit < record.offset + 512 + len(record.prepare.payload) for hit in hits)
    ]
    found = list(scan_segment(bytes(segment), NONCE))
    assert [record for record in records if record in found] == found, "nothing is found that was not written"
    assert [record for record in untouched if record not in found] == []


def test_zeroed_stretch_does_not_end_the_scan() -> None:
    """A lost write in the middle reads as zeros; records after it are found (T-13)."""
    prepares = chain(60)
    segment = packed(prepares)
    segment[4096 * 3 : 4096 * 40] = bytes(4096 * 37)
    assert scanned(segment) == [1, 2, 3, *range(41, 61)]


def test_misdirected_record_is_not_accepted() -> None:
    """A valid record at another offset of the same segment does not count (T-17)."""
    segment = packed(chain(2))
    segment[4096 * 5 : 4096 * 6] = segment[:4096]
    segment[:4096] = bytes(4096)
    assert scanned(segment) == [2]


def test_record_of_another_segment_is_not_accepted() -> None:
    """A valid record at its own offset but with another segment's nonce is stale data (T-17)."""
    for other in (Segment(2, 1), Segment(1, 2)):
        assert scanned(packed(chain(2), other.nonce(INCARNATION))) == []
    assert scanned(packed(chain(2), Segment(1, 1).nonce(b"another machine!"))) == []


def test_record_whose_head_and_header_name_two_ops_is_not_accepted() -> None:
    """Sealed or not: nothing that we write (disk format, Journal)."""
    nonce = Segment(1, 1).nonce(INCARNATION)
    (prepare,) = chain(1)
    record = encode_record(prepare, nonce, 0)
    head = seal_page(size=512, magic=record[16:24], owner=nonce, place=0, sequence=2, body=prepare.header)
    assert scanned(bytearray(record)) == [1]
    assert scanned(bytearray(head + record[512:])) == []


def test_record_over_another_is_noticed_when_read() -> None:
    """Reading by id verifies: what a misdirected write destroyed is None, its neighbour is served."""
    disk = CrashDisk()
    journal = journal_on(disk)
    first, second = chain(2)
    run(disk, journal.append([first, second]))
    segment = disk.cache[Segment(1, 1).file]
    segment[4096:8192] = segment[:4096]
    assert run(disk, journal.read(first.id)) == first
    assert run(disk, journal.read(second.id)) is None
    assert run(disk, journal.read(PrepareId(2, b"?" * 16))) is None


def test_reappended_record_replaces_a_damaged_one() -> None:
    """Repair writes the record again; reads then find the good copy, now and after a restart."""
    disk = CrashDisk()
    journal = journal_on(disk)
    first, second = chain(2)
    run(disk, journal.append([first, second]))
    disk.cache[Segment(1, 1).file][600] ^= 1
    assert run(disk, journal.read(first.id)) is None
    run(disk, journal.append([first]))
    assert run(disk, journal.read(first.id)) == first
    again = journal_on(disk, 2)
    assert run(disk, again.read(first.id)) == first


def test_record_inside_a_payload_is_not_a_record() -> None:
    """A client that stores the bytes of a record cannot make the scanner take them for one."""
    trap = encode_record(chain(1)[0], Segment(1, 2).nonce(INCARNATION), 4096)
    start = packed([prepare_of(trap)]).index(trap)
    segment = packed([prepare_of(bytes(4096 - start) + trap), *chain(1)])
    assert segment.index(trap) == 4096
    segment[100] ^= 1  # Framing is lost, so that the scanner looks at every page.
    assert scanned(segment) == [1], "only the one after it"


@given(st.binary(max_size=2000), st.integers(0, 1 << 40))
def test_reader_takes_any_bytes(data: bytes, offset: int) -> None:
    """Random bytes are no record, and no exception."""
    assert read_record(data, NONCE, offset) is None
    assert list(scan_segment(data, NONCE)) == []


@pytest.mark.parametrize("size", [0, 1, 63, 64, 511, 512, 600])
def test_cut_record_is_not_accepted(size: int) -> None:
    """A record whose end is missing is none, wherever it is cut."""
    prepare = chain(1)[0]
    data = encode_record(prepare, NONCE, 0)
    assert read_record(data[:size], NONCE, 0) is None
    assert read_record(data, NONCE, 0) is not None
