"""What the protocol promises of every Send, held against the disk of its sender."""

from __future__ import annotations

from tests.core.disk_image import DiskImage
from trio_pb.core.ports import Send

__all__ = ["check_send"]


def check_send(send: Send, disk: DiskImage) -> None:
    """R-ENV, R-OUT2 (INV-4, INV-31): nothing leaves that claims more than the disk holds."""
    durable, requires = disk.superblock, send.requires
    assert send.envelope.view <= durable.view, f"{send} claims a view that is not durable"
    assert requires.view <= durable.view
    assert requires.log_view <= durable.log_view
    assert durable.boot == send.envelope.boot, f"{send} leaves before its boot is durable"
    proof = disk.proof
    is_ours = proof is not None and (proof.log_view, proof.sequence > durable.install.proof_base) == (
        durable.log_view,
        True,
    )
    proven = proof.acked if proof is not None and is_ours else 0
    copied = durable.anchor.op if durable.anchor is not None else 0  # A checkpoint needs no records (INV-11).
    floor = max(proven, durable.install.ack_floor, copied)
    assert requires.acked <= floor, f"{send} acknowledges what is not proven"
    if requires.acked:
        held = {id_.op for id_ in disk.records}
        assert held >= set(range(copied + 1, requires.acked + 1)), f"{send} acknowledges what is not on disk"
