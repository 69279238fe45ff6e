"""Frames: where one message ends and the next begins, and the digest that vouches for it (PROTOCOL 3.1).

A frame is a preamble of 32 bytes, a header and a body. The preamble has the digest of the header; the
header of a message has the digest of the body, so one digest vouches for the whole frame.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from trio_pb.core.prepare import checksum_of
from trio_pb.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["FRAME_SIZE_MAX", "HEADER_SIZE_MAX", "MAGIC", "PREAMBLE_SIZE", "Frame", "FrameReader", "encode_frame"]

FRAME_SIZE_MAX = 2 << 20  # Bytes, preamble included: a full prepare and its header fit twice.
HEADER_SIZE_MAX = 128 << 10  # Bytes; the longest list of a message (4096 checksums) takes half of it.
MAGIC = b"TPB1"

_PREAMBLE = struct.Struct(">4sIII16s")  # Magic, header length, body length, reserved (zero), digest of the header.
PREAMBLE_SIZE = 32
assert _PREAMBLE.size == PREAMBLE_SIZE


class Frame(NamedTuple):
    """One frame without its preamble. The header's digest was verified, the body's was not yet."""

    header: bytes
    body: bytes


def encode_frame(header: bytes, body: bytes = b"") -> bytes:
    """Return the bytes of a frame.

    Raises:
        LocalProtocolError: larger than the format allows.
    """
    size = PREAMBLE_SIZE + len(header) + len(body)
    if size > FRAME_SIZE_MAX or len(header) > HEADER_SIZE_MAX:
        raise LocalProtocolError(
            f"a frame of {size} bytes with a header of {len(header)}: "
            f"at most {FRAME_SIZE_MAX} and {HEADER_SIZE_MAX} can be sent"
        )
    return _PREAMBLE.pack(MAGIC, len(header), len(body), 0, checksum_of(header)) + header + body


class FrameReader:
    """Cuts a stream of bytes into frames.

    Holds at most one incomplete frame, and grows that only as its bytes arrive: a preamble that
    announces two megabytes costs nothing by itself. After an error the stream has no next frame;
    every later `feed` raises the same error again.
    """

    def __init__(self) -> None:
        self._partial = bytearray()  # The start of a frame whose end has not arrived.
        self._wanted = PREAMBLE_SIZE  # Size `_partial` must reach before it can be looked at again.
        self._error: RemoteProtocolError | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes of the stream and return the frames that are complete with them.

        Each byte is copied once into its frame, and once more when its frame came in pieces.

        Raises:
            RemoteProtocolError: not our magic, a frame over the limit (known from its preamble), or
                a header that does not match its digest. Frames cut before it in the same call are lost.
        """
        if self._error is not None:
            raise self._error
        try:
            return self._cut(data)
        except RemoteProtocolError as error:
            self._error = error
            self._partial.clear()
            raise

    def _cut(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        start = 0
        if self._partial:
            start = self._finish_partial(data, frames)
        end = len(data)
        while end - start >= PREAMBLE_SIZE:
            header_size, body_size, digest = _read_preamble(data, start)
            header_start = start + PREAMBLE_SIZE
            body_start = header_start + header_size
            frame_end = body_start + body_size
            if frame_end > end:
                self._wanted = frame_end - start
                break
            frames.append(_frame(data[header_start:body_start], data[body_start:frame_end], digest))
            start = frame_end
        if start < end:
            self._partial += memoryview(data)[start:]
        return frames

    def _finish_partial(self, data: bytes, frames: list[Frame]) -> int:
        """Complete the frame begun by earlier chunks; return how much of `data` that took."""
        partial = self._partial
        start = 0
        while True:
            taken = min(self._wanted - len(partial), len(data) - start)
            partial += memoryview(data)[start : start + taken]
            start += taken
            if len(partial) < self._wanted:
                return start
            header_size, body_size, digest = _read_preamble(partial, 0)
            size = PREAMBLE_SIZE + header_size + body_size
            if len(partial) == size:
                break
            self._wanted = size  # Only the preamble was complete.
        body_start = PREAMBLE_SIZE + header_size
        frames.append(_frame(bytes(partial[PREAMBLE_SIZE:body_start]), bytes(partial[body_start:]), digest))
        partial.clear()
        self._wanted = PREAMBLE_SIZE
        return start


def _read_preamble(data: bytes | bytearray, start: int) -> tuple[int, int, bytes]:
    """Return header size, body size and digest; refuse what cannot become a frame."""
    magic, header_size, body_size, reserved, digest = _PREAMBLE.unpack_from(data, start)
    if magic != MAGIC or reserved:
        raise RemoteProtocolError("not a frame: the magic bytes are wrong")
    if PREAMBLE_SIZE + header_size + body_size > FRAME_SIZE_MAX or header_size > HEADER_SIZE_MAX:
        raise RemoteProtocolError(
            f"a frame with a header of {header_size} and a body of {body_size} bytes: "
            f"at most {FRAME_SIZE_MAX} in all and {HEADER_SIZE_MAX} of header"
        )
    return header_size, body_size, digest


def _frame(header: bytes, body: bytes, digest: bytes) -> Frame:
    if checksum_of(header) != digest:
        raise RemoteProtocolError("frame: the header does not match its digest")
    return Frame(header, body)
