"""What comes from a socket: CBOR, frames, and every message of replicas and clients."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import cast

from tests.codec import samples
from tests.fuzz.harness import Harness
from tests.fuzz.tree import change_tree
from trio_pb import canonical
from trio_pb.codec import wire
from trio_pb.codec.frames import FRAME_SIZE_MAX, HEADER_SIZE_MAX, MAGIC, PREAMBLE_SIZE, Frame, FrameReader, encode_frame
from trio_pb.codec.kinds import Kind
from trio_pb.codec.wire import Decoded
from trio_pb.core.messages import Ids, PeerMessage, PrepareCopy, PrepareMessage, StartView
from trio_pb.core.prepare import CHECKSUM_SIZE, PrepareKind, checksum_of
from trio_pb.errors import RemoteProtocolError

__all__ = ["HARNESSES", "mend_prepare_header"]

OWN_TYPES = (type(None), bool, int, bytes, str)


# --- CBOR -----------------------------------------------------------------------------------------


def check_cbor(data: bytes) -> None:
    """What the strict reader takes, it takes in one form only; the lax reader takes that too."""
    try:
        value = canonical.decode_relaxed(data)
    except canonical.CanonicalError:
        lax = False
        value = None
    else:
        lax = True
        assert count_items(value, canonical.DEPTH_MAX + 1) <= len(data), "more items than bytes"
    try:
        strict = canonical.decode(data)
    except canonical.CanonicalError:
        assert not (lax and is_own(value) and canonical.encode(value) == data), "refused in its canonical form"
        return
    assert lax, "the lax reader refuses what the strict one takes"
    assert is_own(strict)
    assert strict == value
    assert canonical.encode(strict) == data


def count_items(value: object, depth: int) -> int:
    """Count scalars and containers; each takes a byte at least."""
    assert depth, "containers nest deeper than allowed"
    if isinstance(value, list):
        return 1 + sum(count_items(item, depth - 1) for item in cast("list[object]", value))
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        return 1 + sum(1 + count_items(item, depth - 1) for _, item in items)
    return 1


def is_own(value: object) -> bool:
    """Whether only types that we exchange are in it."""
    if isinstance(value, list):
        return all(map(is_own, cast("list[object]", value)))
    if isinstance(value, dict):
        fields = cast("dict[object, object]", value)
        return all(type(key) in (int, str) and is_own(item) for key, item in fields.items())
    return type(value) in OWN_TYPES


def cbor_seeds() -> Iterator[bytes]:
    """Headers of two messages, and a value of every type."""
    for name in ("DoViewChange", "StatusReport"):
        yield FrameReader().feed(samples.frames()[name])[0].header
    scalars: list[object] = [0, 23, 24, -1, 2**64 - 1, -(2**63), None, True, False, b"bytes", "text \u00e9"]
    yield canonical.encode([*scalars, [scalars[:0]], dict[int, int]()])
    yield canonical.encode({"a": {"b": [1, {"c": b""}]}})


# --- Frames ---------------------------------------------------------------------------------------


def check_frames(data: bytes) -> None:
    """However a stream is cut into chunks, its frames are the same, and are the bytes of the stream."""
    whole, error = read_frames(data, len(data) or 1)
    again = b"".join(encode_frame(frame.header, frame.body) for frame in whole)
    assert data.startswith(again)
    begun = data[len(again) :]
    if error is None and len(begun) >= PREAMBLE_SIZE:
        header_size, body_size = sizes_of(begun)
        assert header_size <= HEADER_SIZE_MAX, "waits for a header that is too large"
        assert PREAMBLE_SIZE + header_size + body_size <= FRAME_SIZE_MAX, "waits for a frame that is too large"
    for size in (7, 33):
        frames, other_error = read_frames(data, size)
        assert (error is None) == (other_error is None), "an error that depends on the chunks"
        if error is None:
            assert frames == whole
        else:
            assert data.startswith(b"".join(encode_frame(frame.header, frame.body) for frame in frames))


def read_frames(data: bytes, size: int) -> tuple[list[Frame], RemoteProtocolError | None]:
    """Feed `data` in chunks of `size`; after an error, every later chunk gets the same one."""
    reader = FrameReader()
    frames: list[Frame] = []
    error: RemoteProtocolError | None = None
    for at in range(0, len(data), size):
        before, raised = error, None
        try:
            frames += reader.feed(data[at : at + size])
        except RemoteProtocolError as refusal:
            raised = error = refusal
        assert before is None or raised is before, "it goes on after an error"
    return frames, error


def frame_seeds() -> Iterator[bytes]:
    """A frame with a body, one without, and a few in one stream."""
    frames = samples.frames()
    yield frames["Request"]
    yield frames["StatusGet"]
    yield frames["StatusGet"] + frames["ReadIndex"] + frames["Gone"]


# --- Messages -------------------------------------------------------------------------------------


def message_seeds() -> Iterator[bytes]:
    """A frame of each class."""
    yield from samples.frames().values()


def check_messages(data: bytes) -> None:
    """A message that was read is the one that is written, and a prepare in it can be executed."""
    try:
        frames = FrameReader().feed(data)
    except RemoteProtocolError:
        return
    for frame in frames:
        try:
            decoded = wire.decode(frame)
        except RemoteProtocolError:
            continue
        if decoded is None:
            continue
        written = encode(decoded)
        (again,) = FrameReader().feed(written)
        assert wire.decode(again) == decoded
        message = decoded.message
        if isinstance(message, StartView | Ids):
            assert all(len(checksum) == CHECKSUM_SIZE for checksum in message.checksums)
        if isinstance(message, PrepareMessage | PrepareCopy):
            prepare = message.prepare
            assert prepare.checksum == checksum_of(prepare.header)
            if prepare.kind is PrepareKind.BATCH:
                assert len(prepare.requests()) == prepare.count


def encode(decoded: Decoded) -> bytes:
    """Write a message of any kind."""
    # It takes messages of clients as well: what is theirs is told from what is a peer's by the type alone.
    return wire.encode_peer(decoded.envelope, cast("PeerMessage", decoded.message))


def change_message(data: bytes, random: Random) -> bytes:
    """Change an item in the header or the body of the first frame, or in the header of its prepare."""
    header, body, rest = cut_frame(data)
    match random.randrange(4):
        case 0:
            body = change_tree(body, random)
        case 1:
            header = change_item(header, 16, random)
        case _:
            header = change_tree(header, random)
    return joined(header, body) + rest


def change_item(data: bytes, key: int, random: Random) -> bytes:
    """Change a place in the CBOR that stands as bytes under `key` of a map."""
    try:
        fields = canonical.decode_relaxed(data)
        if isinstance(fields, dict):
            items = cast("dict[object, object]", fields)
            inner = items.get(key)
            if isinstance(inner, bytes):
                return canonical.encode_ordered({**items, key: change_tree(inner, random)})
    except (ValueError, TypeError):
        pass
    return data


def repair_messages(data: bytes) -> bytes:
    """Make the digests of headers, bodies and prepares true, and of the sizes what is there."""
    repaired: list[bytes] = []
    while len(data) > PREAMBLE_SIZE:
        header, body, data = cut_frame(data)
        repaired.append(joined(mend_header(header, body), body))
    return b"".join(repaired)


def cut_frame(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Cut a frame off, as far as it is there: header, body, the rest."""
    header_size, body_size = sizes_of(data)
    body_at = min(PREAMBLE_SIZE + header_size, len(data))
    if data[: len(MAGIC)] != MAGIC or body_at == len(data):
        body_size = len(data)  # What is no frame becomes one that has all of it.
    return data[PREAMBLE_SIZE:body_at], data[body_at : body_at + body_size], data[body_at + body_size :]


def sizes_of(data: bytes) -> tuple[int, int]:
    """Read the sizes of header and body in a preamble."""
    return int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")


def joined(header: bytes, body: bytes) -> bytes:
    """Return a frame, within the limits."""
    return encode_frame(header[:HEADER_SIZE_MAX], body[: FRAME_SIZE_MAX - HEADER_SIZE_MAX - PREAMBLE_SIZE])


def mend_header(header: bytes, body: bytes) -> bytes:
    """Put the digest of the body into a header, and into that of the prepare in it."""
    try:
        fields = canonical.decode_relaxed(header)
        if not isinstance(fields, dict):
            return header
        mended = {**cast("dict[object, object]", fields), 11: checksum_of(body)}
        inner = mended.get(16)
        if mended.get(1) in (Kind.PREPARE, Kind.PREPARE_COPY) and isinstance(inner, bytes):
            mended[16] = mend_prepare_header(inner, body)
        return canonical.encode_ordered(mended)
    except (ValueError, TypeError):
        return header


def mend_prepare_header(header: bytes, payload: bytes) -> bytes:
    """Put size and digest of the payload into the header of a prepare, and its count of requests if it has one."""
    try:
        fields = canonical.decode_relaxed(header)
    except canonical.CanonicalError:
        return header
    if not isinstance(fields, dict) or len(cast("dict[object, object]", fields)) != 12:
        return header
    mended = {**cast("dict[object, object]", fields), 10: len(payload), 11: checksum_of(payload)}
    try:
        return canonical.encode_ordered(mended)
    except (ValueError, TypeError):
        return header


HARNESSES = (
    Harness(
        name="cbor", about="canonical CBOR, strict and lax", check=check_cbor, seeds=cbor_seeds, mutate=change_tree
    ),
    Harness(
        name="frames",
        about="a stream of bytes cut into frames",
        check=check_frames,
        seeds=frame_seeds,
        repair=repair_messages,
    ),
    Harness(
        name="messages",
        about="every message of replicas and clients, prepares with their payload",
        check=check_messages,
        seeds=message_seeds,
        mutate=change_message,
        repair=repair_messages,
    ),
)
