"""What an operator must see is said once, in plain words, and counted."""

from __future__ import annotations

import logging

import attrs
import pytest

from tests.driver.fakes import make_start
from trio_pb.core.manifest import Chunk
from trio_pb.core.messages import CheckpointId
from trio_pb.core.ports import ChunkStored, Scrubbed, Start, SyncState, Trace, WalDone
from trio_pb.driver.events import EventLog
from trio_pb.driver.opening import CopiesDamaged


class World:
    """An event log with a clock and the core's counters at hand."""

    def __init__(self, start: Start | None = None, copies: CopiesDamaged | None = None) -> None:
        self.now = 0.0
        self.core_counters: dict[str, int] = {}
        self.log = EventLog(
            start or make_start(),
            copies or CopiesDamaged(),
            counters=lambda: tuple(self.core_counters.items()),
            clock=lambda: self.now,
        )

    def trace(self, event: str, **fields: int) -> None:
        """An event of the core."""
        self.log.on_trace(Trace(event, tuple(fields.items())))


@pytest.mark.parametrize(
    ("event", "fields", "level", "words"),
    [
        ("diverged", {"op": 64}, logging.ERROR, "DIVERGED: the state after op 64"),
        (
            "checkpoint_lost",
            {"op": 64, "start": 0},
            logging.WARNING,
            "of op 64, does not load: it goes on from that of op 0",
        ),
        ("state_lost", {"op": 64}, logging.ERROR, "no checkpoint on this disk loads, the newest was of op 64"),
        ("sync_begun", {"op": 64}, logging.WARNING, "copies the checkpoint of op 64"),
        ("disk_full", {}, logging.ERROR, "refused with disk_full, reads go on"),
        ("disk_has_space", {}, logging.WARNING, "orders are taken again"),
        ("checkpoint_failed", {"op": 64}, logging.ERROR, "the checkpoint of op 64 could not be written"),
        ("identity_refused", {"replica": 2}, logging.ERROR, "replica 2 came with another identity"),
        ("selection_blocked", {"op": 7}, logging.ERROR, "op 7 may have been acknowledged"),
        ("record_lost", {"op": 7}, logging.WARNING, "the record of op 7 is damaged"),
        ("recovered", {"head": 9, "acked": 9, "found": 0, "faults": 3}, logging.WARNING, "3 acknowledged records"),
    ],
)
def test_what_matters_is_loud(
    event: str, fields: dict[str, int], level: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each with the replica that says it."""
    World().trace(event, **fields)
    (record,) = caplog.records
    assert record.levelno == level
    assert words in record.message
    assert record.message.startswith("replica 0: ")


def test_everyday_work_is_not(caplog: pytest.LogCaptureFixture) -> None:
    """Only at DEBUG."""
    world = World()
    world.trace("certified", op=64)
    world.trace("recovered", head=9, acked=9, found=0, faults=0)
    world.trace("repaired", op=10)  # It was on its way when the replica was down.
    world.log.on_completions([WalDone(1), ChunkStored(b"d" * 32), Scrubbed(is_round_done=True)])
    assert not caplog.records
    assert not any(world.log.counters.values())


def test_the_same_words_are_said_at_most_every_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody who knocks ten times a second does not fill the log."""
    world = World()
    for tenth in range(105):
        world.now = tenth / 10
        world.trace("identity_refused", replica=2)
    assert len(caplog.records) == 2


def test_damage_found_at_the_start_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Afterwards the copies are whole again."""
    world = World(copies=CopiesDamaged(superblock=1, proofs=8))
    assert "1 of the superblock's copies were damaged: written again" in caplog.text
    assert "8 copies of proofs were damaged: amnesia" in caplog.text
    assert (world.log.counters["superblock_copies_damaged"], world.log.counters["proof_copies_damaged"]) == (1, 8)


def test_a_replica_that_diverged_says_so_at_every_start(caplog: pytest.LogCaptureFixture) -> None:
    """And what it is rebuilt from."""
    start = make_start()
    image = attrs.evolve(start.superblock, untrusted=True, certified=CheckpointId(64, b"d" * 32))
    World(attrs.evolve(start, superblock=image))
    assert "UNTRUSTED" in caplog.text
    assert "rebuilt from the certified checkpoint, op 64" in caplog.text


def test_a_transfer_tells_how_much_it_copies(caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that are missing, and bytes that came."""
    world = World()
    world.core_counters["chunk_bytes_received"] = 100
    world.trace("sync_begun", op=64)
    target = CheckpointId(64, b"m" * 32)
    world.log.on_completions([SyncState(target, (Chunk(1, b"a" * 32, 30), Chunk(2, b"b" * 32, 12)))])
    world.core_counters["chunk_bytes_received"] = 150
    world.trace("state_transferred", op=64)
    assert "checkpoint of op 64: 2 chunks, 42 bytes are not here yet" in caplog.text
    assert "state transfer done: has the state after op 64, 50 bytes came" in caplog.text


def test_damaged_records_are_told_again_when_all_are_repaired(caplog: pytest.LogCaptureFixture) -> None:
    """Those that the start found and those that a look found later."""
    world = World()
    world.trace("recovered", head=9, acked=9, found=0, faults=2)
    world.trace("record_lost", op=12)
    for op in (3, 4, 11):
        world.trace("repaired", op=op)
    assert "all of them" not in caplog.text
    world.trace("repaired", op=12)
    assert "3 damaged records were repaired, all of them" in caplog.text
    assert (world.log.counters["records_damaged"], world.log.counters["records_repaired"]) == (3, 3)


def test_a_damaged_chunk_is_told_again_when_it_is_repaired(caplog: pytest.LogCaptureFixture) -> None:
    """Chunks of a transfer are none of these."""
    world = World()
    world.log.on_completions([Scrubbed(chunks=(Chunk(1, b"a" * 32, 30),), proofs=True, superblock=True)])
    assert "a chunk of a checkpoint is damaged" in caplog.text
    assert "a copy of the newest proof is damaged" in caplog.text
    assert "a copy of the superblock is damaged" in caplog.text
    world.log.on_completions([ChunkStored(b"b" * 32)])
    assert world.log.counters["chunks_repaired"] == 0
    world.log.on_completions([ChunkStored(b"a" * 32)])
    assert "a damaged chunk of a checkpoint was repaired" in caplog.text
    assert world.log.counters["chunks_repaired"] == 1
