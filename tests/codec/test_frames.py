"""A stream of frames, cut in any way, gives the same frames; anything else is refused early."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.strategies import QUICK
from trio_pb.codec.frames import (
    FRAME_SIZE_MAX,
    HEADER_SIZE_MAX,
    MAGIC,
    PREAMBLE_SIZE,
    Frame,
    FrameReader,
    encode_frame,
)
from trio_pb.core.prepare import checksum_of
from trio_pb.errors import LocalProtocolError, RemoteProtocolError

frame_lists = st.lists(st.builds(Frame, st.binary(max_size=60), st.binary(max_size=200)), max_size=8)


def preamble(header_size: int, body_size: int, *, magic: bytes = MAGIC, reserved: int = 0) -> bytes:
    """A preamble that announces these sizes; its digest is that of nothing."""
    return struct.pack(">4sIII16s", magic, header_size, body_size, reserved, checksum_of(b""))


@QUICK
@given(frame_lists, st.data())
def test_any_split_of_a_stream_gives_the_same_frames(frames: list[Frame], data: st.DataObject) -> None:
    """Where the network cuts the stream changes nothing."""
    stream = b"".join(encode_frame(*frame) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reader = FrameReader()
    received: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += reader.feed(stream[start:end])
    assert received == frames


def test_one_byte_at_a_time_gives_the_same_frames() -> None:
    """The worst split of all."""
    frames = [Frame(b"first", b"body"), Frame(b"", b""), Frame(b"third", b"x" * 100)]
    stream = b"".join(encode_frame(*frame) for frame in frames)
    reader = FrameReader()
    received = [frame for at in range(len(stream)) for frame in reader.feed(stream[at : at + 1])]
    assert received == frames


def test_a_frame_is_delivered_with_its_last_byte() -> None:
    """No frame waits for the next one to begin."""
    encoded = encode_frame(b"header", b"body")
    reader = FrameReader()
    assert reader.feed(encoded[:-1]) == []
    assert reader.feed(encoded[-1:]) == [Frame(b"header", b"body")]


def test_the_largest_frame_passes() -> None:
    """The limit is the size of the largest frame, not one less."""
    body = bytes(FRAME_SIZE_MAX - PREAMBLE_SIZE - 3)
    encoded = encode_frame(b"big", body)
    assert len(encoded) == FRAME_SIZE_MAX
    reader = FrameReader()
    received = [frame for at in range(0, len(encoded), 65536) for frame in reader.feed(encoded[at : at + 65536])]
    assert received == [Frame(b"big", body)]


@pytest.mark.parametrize(
    ("header_size", "body_size"),
    [
        (3, FRAME_SIZE_MAX - PREAMBLE_SIZE - 2),
        (HEADER_SIZE_MAX + 1, 0),
        (2**32 - 1, 2**32 - 1),
    ],
)
def test_a_frame_over_the_limit_is_refused_from_its_preamble(header_size: int, body_size: int) -> None:
    """Nothing of such a frame is waited for."""
    with pytest.raises(RemoteProtocolError, match="at most"):
        FrameReader().feed(preamble(header_size, body_size))


@pytest.mark.parametrize("cut", [1, 31])
def test_a_frame_over_the_limit_is_refused_when_its_preamble_came_in_pieces(cut: int) -> None:
    """The same refusal on the way through the incomplete frame."""
    announced = preamble(0, FRAME_SIZE_MAX)
    reader = FrameReader()
    assert reader.feed(announced[:cut]) == []
    with pytest.raises(RemoteProtocolError, match="at most"):
        reader.feed(announced[cut:])


@pytest.mark.parametrize(
    "start", [preamble(0, 0, magic=b"HTTP"), preamble(0, 0, reserved=1), b"GET / HTTP/1.1\r\nHost: a.example\r\n"]
)
def test_what_is_not_our_protocol_is_refused(start: bytes) -> None:
    """A browser, a port scanner, a later format."""
    with pytest.raises(RemoteProtocolError, match="magic"):
        FrameReader().feed(start)


def test_a_header_with_a_wrong_digest_is_refused() -> None:
    """One flipped bit in the header."""
    encoded = bytearray(encode_frame(b"header", b"body"))
    encoded[PREAMBLE_SIZE] ^= 1
    with pytest.raises(RemoteProtocolError, match="digest"):
        FrameReader().feed(bytes(encoded))


def test_after_an_error_nothing_is_read_any_more() -> None:
    """Framing is lost for good: intact bytes that follow are not taken for a frame."""
    reader = FrameReader()
    with pytest.raises(RemoteProtocolError):
        reader.feed(preamble(0, 0, magic=b"oops"))
    with pytest.raises(RemoteProtocolError, match="magic"):
        reader.feed(encode_frame(b"header"))


def test_an_announced_size_takes_no_memory_by_itself() -> None:
    """Many connections may announce two megabytes each and send nothing."""
    announced = preamble(0, FRAME_SIZE_MAX - PREAMBLE_SIZE)
    tracemalloc.start()
    try:
        readers = [FrameReader() for _ in range(20)]
        for reader in readers:
            assert reader.feed(announced) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000


def test_a_large_frame_in_small_pieces_is_not_copied_for_each_piece() -> None:
    """What all pieces together allocate grows with the frame, not with its square (64 MB here)."""
    encoded = encode_frame(b"big", bytes(128 << 10))
    reader = FrameReader()
    received: list[Frame] = []
    allocated = 0
    tracemalloc.start()
    try:
        for at in range(0, len(encoded), 128):
            piece = encoded[at : at + 128]
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            received += reader.feed(piece)
            allocated += tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert len(received) == 1
    assert allocated < 16 * len(encoded)


@QUICK
@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_give_frames_or_a_protocol_error(data: bytes, cut: int) -> None:
    """The reader is total, with and without a true preamble in front."""
    for stream in (data, MAGIC + data, preamble(len(data) // 2, len(data) // 3) + data):
        reader = FrameReader()
        try:
            reader.feed(stream[:cut])
            reader.feed(stream[cut:])
        except RemoteProtocolError:
            pass


@pytest.mark.parametrize(("header", "body"), [(b"", bytes(FRAME_SIZE_MAX)), (bytes(HEADER_SIZE_MAX + 1), b"")])
def test_we_do_not_send_what_nobody_would_take(header: bytes, body: bytes) -> None:
    """A frame over the limit is our own caller's mistake."""
    with pytest.raises(LocalProtocolError, match="at most"):
        encode_frame(header, body)
