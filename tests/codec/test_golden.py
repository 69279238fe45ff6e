"""The bytes of every message, reviewed as text: a change here is a change of the wire.

TRIO_PB_REWRITE_GOLDEN=1 writes the file anew; the diff then shows what changed for peers of older
releases.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import pytest

from tests.codec import samples
from trio_pb.codec import wire
from trio_pb.codec.frames import FrameReader
from trio_pb.core.messages import ClientMessage, PeerMessage, ServerMessage

GOLDEN = Path(__file__).parent / "golden" / "frames.txt"
LINE = 32  # Bytes of a line: the preamble is the first.


def as_text(frames: dict[str, bytes]) -> str:
    """One paragraph per message: its name, then its frame in hexadecimal, 32 bytes a line."""
    paragraphs: list[str] = []
    for name, frame in sorted(frames.items()):
        lines = [frame[at : at + LINE].hex() for at in range(0, len(frame), LINE)]
        paragraphs.append("\n".join([name, *lines]) + "\n")
    return "\n".join(paragraphs)


def read_golden() -> dict[str, bytes]:
    """The frames in the file by name."""
    paragraphs = GOLDEN.read_text(encoding="ascii").split("\n\n")
    return {(lines := paragraph.split())[0]: bytes.fromhex("".join(lines[1:])) for paragraph in paragraphs}


def test_every_message_class_has_a_sample() -> None:
    """A new message without a golden vector fails here."""
    classes = {cls.__name__ for cls in (*get_args(PeerMessage), *get_args(ClientMessage), *get_args(ServerMessage))}
    assert set(samples.frames()) == classes


def test_frames_are_those_of_the_golden_file() -> None:
    """Peers of the same wire version must agree to the byte."""
    written = as_text(samples.frames())
    if os.environ.get("TRIO_PB_REWRITE_GOLDEN"):
        GOLDEN.write_text(written, encoding="ascii")
        pytest.fail(f"{GOLDEN} was rewritten: review its diff and run again without TRIO_PB_REWRITE_GOLDEN")
    assert written == GOLDEN.read_text(encoding="ascii")


@pytest.mark.parametrize("message", [*samples.PEER, *samples.CLIENT, *samples.SERVER], ids=lambda m: type(m).__name__)
def test_golden_frames_decode_to_their_samples(message: wire.Message) -> None:
    """What an older release wrote we still read."""
    (frame,) = FrameReader().feed(read_golden()[type(message).__name__])
    decoded = wire.decode(frame)
    assert decoded is not None
    assert decoded.message == message
