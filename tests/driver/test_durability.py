"""The check behind every Send sees what completed, and nothing else (R-OUT2)."""

from __future__ import annotations

import attrs
import pytest

from tests.driver.fakes import make_start, make_superblock
from trio_pb.core.durable import Proof
from trio_pb.core.messages import CheckpointId
from trio_pb.core.ports import Requires, SuperblockDone, SuperblockWrite, WalAppend, WalDone
from trio_pb.core.prepare import genesis
from trio_pb.driver.durability import Durability

ANCHOR = genesis(b"c" * 16).id


def append(sequence: int, *, acked: int | None, log_view: int = 0) -> WalAppend:
    """An append whose proof promises `acked`."""
    proof = None if acked is None else Proof((1 << 32) + sequence, log_view, acked, b"", ANCHOR)
    return WalAppend(sequence, (), proof)


def test_a_view_may_be_named_only_when_its_superblock_is_durable() -> None:
    """A write on its way does not count."""
    durability = Durability(make_start())
    durability.note_write(SuperblockWrite(1, make_superblock(view=1025)))
    with pytest.raises(AssertionError, match="R-OUT2"):
        durability.check(Requires(1025, 0, 0))
    durability.note_completions([SuperblockDone(1)])
    durability.check(Requires(1025, 0, 0))
    with pytest.raises(AssertionError, match="durable log_view 0"):
        durability.check(Requires(1025, 1025, 0))


def test_an_acknowledgement_needs_a_durable_proof() -> None:
    """One completion covers all appends before it; an append without proof raises nothing."""
    durability = Durability(make_start())
    for output in (append(1, acked=3), append(2, acked=5), append(3, acked=None), append(4, acked=9)):
        durability.note_write(output)
    with pytest.raises(AssertionError, match="durable watermark 0"):
        durability.check(Requires(0, 0, 1))
    durability.note_completions([WalDone(3)])
    assert durability.acked == 5
    durability.check(Requires(0, 0, 5))
    with pytest.raises(AssertionError, match="durable watermark 5"):
        durability.check(Requires(0, 0, 6))


def test_an_install_voids_older_proofs_and_brings_its_floor() -> None:
    """Only a proof of the new log_view with a later sequence counts again (PROTOCOL 6.5)."""
    durability = Durability(make_start())
    durability.note_write(append(1, acked=8))
    durability.note_completions([WalDone(1)])
    image = make_superblock(view=1025, log_view=1025, ack_floor=4, proof_base=(1 << 32) + 1)
    durability.note_write(SuperblockWrite(1, image))
    durability.note_completions([SuperblockDone(1)])
    assert durability.superblock is image
    assert durability.acked == 4
    durability.note_write(append(2, acked=6, log_view=1025))
    durability.note_completions([WalDone(2)])
    assert durability.acked == 6


def test_a_live_checkpoint_binds_like_a_proof() -> None:
    """What was copied up to there is acknowledged without any record (PROTOCOL 8.2)."""
    durability = Durability(make_start())
    image = attrs.evolve(make_superblock(), checkpoint=CheckpointId(64, b"d" * 32))
    durability.note_write(SuperblockWrite(1, image))
    assert durability.acked == 0
    durability.note_completions([SuperblockDone(1)])
    assert durability.acked == 64
    durability.note_write(append(1, acked=65))
    durability.note_completions([WalDone(1)])
    assert durability.acked == 65
