"""State transfer: a replica that lags too far copies a certified checkpoint (PROTOCOL 8.2, A.5)."""

from __future__ import annotations

from typing import cast

import attrs
import pytest

from sim.network import Payload
from sim.scenario import Cluster
from sim.shape import Shape
from sim.stage import Letter
from trio_pb.core.config import Limits
from trio_pb.core.messages import ChunkPiece

INTERVAL = 8
SHAPE = Shape(
    limits=Limits(batch_requests_max=1, checkpoint_interval_ops=INTERVAL, wal_ops=4 * INTERVAL, pipeline_max=4)
)


def _lagging(c: Cluster, *, ops: int = 60) -> str:
    """A backup that was away while the others forgot what it lacks; it is still cut off."""
    b = c.names[1]
    c.order("laptop first", customer=1).expect_reply()
    c.isolate(b)
    for number in range(ops):
        c.order(f"laptop {number}", customer=number).expect_reply()
    c.run_for(20)
    return b


def _transferred(c: Cluster, count: int = 1) -> None:
    c.run_until(lambda: c.count("state_transferred") >= count, "the state to be copied")


def test_a_5_chunks_survive_a_crash_in_the_middle() -> None:
    """A.5: crash and restart during the transfer: what was stored is not fetched again."""
    c = Cluster(shape=attrs.evolve(SHAPE, limits=attrs.evolve(SHAPE.limits, chunk_requests_max=1)))
    b = _lagging(c)
    c.heal()
    c.delay(2, "ChunkPiece")
    c.run_until(lambda: c.replica(b).counted("chunks_stored") >= 8, "a few chunks")
    c.crash(b, power=True)
    c.restart(b)
    _transferred(c)
    again = c.copy("ChunkPiece", dst=b)
    c.expect_same_state()
    assert not again.letters
    missing: list[int] = []
    for event in c.sim.events:
        if event[1] == "sync_chunks":
            name, count = cast("tuple[str, int]", event[3])
            assert name == "missing"
            missing.append(count)
    assert missing[-1] <= missing[0] - 8


def test_8_2_two_that_lag_alike_do_not_wait_for_each_other() -> None:
    """8.2: what both lack the others have freed, though neither lags by two intervals; and each has a long log."""
    limits = attrs.evolve(SHAPE.limits, checkpoint_interval_ops=4, wal_ops=12)
    # Segments of two records, so that what is not needed is really gone.
    c = Cluster(replicas=5, shape=attrs.evolve(SHAPE, limits=limits, segment_size=8192))
    a, *_, d, e = c.names
    while c.replica(a).head % 4 != 1 or c.replica(a).head < 9:
        c.order("laptop").expect_reply()
    c.run_until(lambda: c.replica(d).applied == c.replica(e).applied == c.replica(a).head, "both to be up to date")
    others = [name for name in c.names if name not in (d, e)]
    led = c.count("became_primary")
    c.partition(others, [d, e])
    for _ in range(7):
        c.order("laptop").expect_reply()
    low = c.replica(d).applied + 1
    c.run_until(lambda: all(c.replica(name).state.wal_low > low for name in others), "the others to free the log")
    c.transfer()  # The two learn with the new view's log what they lack, and need not ask the primary for its name.
    c.run_until(lambda: c.count("became_primary") > led, "another to lead")
    c.heal()
    c.expect_same_state()


def test_8_2_bytes_that_are_not_the_chunk_are_refused() -> None:
    """8.2: a piece whose digest is wrong is thrown away and fetched from another peer."""
    c = Cluster(shape=SHAPE)
    a = c.names[0]
    b = _lagging(c)

    def is_from_the_primary(letter: Letter) -> bool:
        message = letter.message
        assert isinstance(message, ChunkPiece)
        wrong = attrs.evolve(message, data=bytes(len(message.data)))
        c.sim.deliver(
            Letter(
                letter.source, letter.destination, Payload(wrong, letter.payload.envelope, letter.payload.connection)
            )
        )
        return True

    c.change("ChunkPiece", is_from_the_primary, src=a, dst=b)
    c.heal_partitions()
    _transferred(c)
    assert c.replica(b).counted("chunks_refused") > 0
    c.expect_same_state()


@pytest.mark.parametrize("stored", [0, 4, 10])
def test_8_2_view_change_during_a_transfer(stored: int) -> None:
    """8.2, 4: the primary dies while a backup copies; the backup helps to elect, and the copy goes on."""
    c = Cluster(shape=SHAPE)
    a = c.names[0]
    b = _lagging(c)
    c.heal()
    c.delay(3, "ChunkPiece")
    c.run_until(lambda: c.replica(b).counted("chunks_stored") >= stored, "some chunks")
    c.crash(a)
    c.await_primary()
    c.order("laptop").expect_reply()
    c.restart(a)
    _transferred(c)
    c.expect_same_state()


def test_8_2_transfer_during_a_view_change() -> None:
    """8.2, 4: a copy is complete while a view is being installed: one after the other, and neither is lost."""
    c = Cluster(shape=SHAPE)
    a = c.names[0]
    b = _lagging(c)
    held = c.hold("ChunkPiece", dst=b)
    c.heal_partitions()
    c.run_until(lambda: bool(held.letters), "the first piece")
    start_views = c.hold("StartView", dst=b)
    c.crash(a)
    c.run_until(lambda: bool(start_views.letters) or bool(c.primaries()), "the next view")
    held.release()
    c.run_for(5)
    start_views.release()
    c.restart(a)
    _transferred(c)
    c.order("laptop").expect_reply()
    c.expect_same_state()


@pytest.mark.parametrize("steps", range(0, 120, 12))
def test_8_2_crash_at_any_step_of_a_transfer(steps: int) -> None:
    """8.2: power fails between the first chunk and after the image that makes the copy ours: old state, or new."""
    c = Cluster(shape=SHAPE)
    b = _lagging(c)
    held = c.hold("ChunkPiece", dst=b)
    c.heal_partitions()
    c.run_until(lambda: bool(held.letters), "the first piece")
    c.crash_in_disk_work(b, steps, power=False)
    held.release()
    c.run_until(lambda: not c.is_up(b) or c.count("state_transferred") > 0, "the crash")
    if not c.is_up(b):
        c.replica(b).replica.disk = c.replica(b).replica.disk.after_power_cut()
        c.restart(b)
    c.spare(b)
    c.order("laptop").expect_reply()
    c.expect_same_state()
