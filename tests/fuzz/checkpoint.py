"""What comes in a checkpoint, from a disk or from a peer: manifests, sessions, and the chunks of the laptop orders."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from tests.fuzz.harness import Harness
from tests.fuzz.tree import change_tree
from trio_pb.app.orders import (
    PLACE,
    READ,
    RECENT,
    SCAN,
    Orders,
    PlaceOrder,
    ReadCustomer,
    ReadRecent,
    ScanCustomers,
    encode_place,
    encode_read,
    encode_recent,
    encode_scan,
)
from trio_pb.app.parts import PART_PLACES
from trio_pb.core.manifest import (
    CHUNK_DIGEST_SIZE,
    CHUNK_SIZE_MAX,
    Chunk,
    CoreState,
    KeptReply,
    Manifest,
    SessionRow,
    decode_manifest,
    decode_sessions,
    encode_manifest,
    encode_sessions,
)
from trio_pb.core.messages import Configuration
from trio_pb.core.prepare import CHECKSUM_SIZE
from trio_pb.errors import RemoteProtocolError

__all__ = ["HARNESSES"]


# --- Manifest and sessions ------------------------------------------------------------------------


def check_manifest(data: bytes) -> None:
    """One encoding for each manifest; numbers, sizes and replicas within their bounds."""
    try:
        manifest = decode_manifest(data)
    except RemoteProtocolError:
        return
    assert encode_manifest(manifest) == data
    state = manifest.state
    for number in (state.op, state.last_timestamp, state.release, state.configuration.epoch):
        assert type(number) is int
        assert 0 <= number < 2**64
    assert 1 <= len(state.configuration.voters) <= 7
    for replica in (*state.configuration.voters, *state.configuration.standbys):
        assert 0 <= replica <= 1023
    for chunk in manifest.chunks:
        assert len(chunk.digest) == CHUNK_DIGEST_SIZE
        assert 0 <= chunk.size <= CHUNK_SIZE_MAX
        assert type(chunk.place) is type(chunk.size) is int
        assert 0 <= chunk.place < 2**64


def manifest_seeds() -> Iterator[bytes]:
    """An empty one, and one with chunks of both kinds."""
    state = CoreState(
        op=1024,
        checksum=b"c" * 16,
        last_timestamp=1_700_000_000_000_000_000,
        release=1,
        configuration=Configuration(0, (0, 1, 2), (7,)),
        probe=b"p" * 16,
        sessions=(),
    )
    yield encode_manifest(Manifest(cluster=b"u" * 16, state=state, sessions=(), application=()))
    chunks = tuple(Chunk(place, bytes([place]) * CHUNK_DIGEST_SIZE, 100 * place) for place in range(1, 4))
    yield encode_manifest(Manifest(cluster=b"u" * 16, state=state, sessions=chunks[:1], application=chunks))


def check_sessions(data: bytes) -> None:
    """One encoding for each table of sessions; ids of their size, and no negative number."""
    try:
        rows = decode_sessions(data)
    except RemoteProtocolError:
        return
    assert encode_sessions(rows) == data
    for row in rows:
        assert len(row.client) == CHECKSUM_SIZE
        for reply in (row.registered, *row.replies):
            for number in (reply.number, reply.op, reply.timestamp, row.session, row.last_number, row.last_op):
                assert type(number) is int
                assert number >= 0


def session_seeds() -> Iterator[bytes]:
    """No session, one, two."""
    registered = KeptReply(0, 1, 5, b"\x07")
    rows = (
        SessionRow(b"a" * 16, 8, 0, 2, registered, ()),
        SessionRow(b"b" * 16, 7, 2, 3, registered, (KeptReply(1, 3, 6, b"did"), KeptReply(2, 4, 7, b""))),
    )
    for count in range(3):
        yield encode_sessions(rows[:count])


# --- State ----------------------------------------------------------------------------------------

# Small, so that a machine is quickly made; more than one page, so that pages go together or do not.
RECENT_ORDERS = 300
HEAD_SIZE = 8  # Of a chunk in an input: its place and its size, 4 bytes each.
_RING_AT = 2 * PART_PLACES


def check_state(data: bytes) -> None:
    """A state that was restored is frozen as the same chunks; it answers queries and takes orders."""
    machine = Orders(recent_orders_max=RECENT_ORDERS)
    restoring = machine.restoring()
    chunks = cut_chunks(data)
    try:
        for place, chunk in chunks:
            restoring.put(place, chunk)
        restoring.finish()
        machine.adopt(restoring, 1_000_000)
    except RemoteProtocolError:
        return
    digest = machine.digest()
    frozen = machine.freeze()
    assert [(place, frozen.encode(place)) for place in frozen.places] == chunks
    frozen.release()
    questions = [
        (1, 0, SCAN, encode_scan(ScanCustomers(0, 2000)), b""),
        (2, 0, RECENT, encode_recent(ReadRecent(0, 2000)), b""),
        (3, 0, READ, encode_read(ReadCustomer(1)), b""),
    ]
    assert len(machine.query(1_000_000, 0, questions)) == len(questions)
    assert machine.digest() == digest
    order = encode_place(PlaceOrder(1, 2**63 - 1, "laptop", overwrite=True, idempotency_key=b"key"))
    machine.apply(1_000_001, 1, [(0, bytes(16), PLACE, order)])
    assert machine.digest() != digest


def cut_chunks(data: bytes) -> list[tuple[int, bytes]]:
    """Cut an input into (place, chunk); what is left over is a chunk cut short."""
    chunks: list[tuple[int, bytes]] = []
    while data:
        place, size = (int.from_bytes(data[at : at + 4], "big") for at in (0, 4))
        chunks.append((place, data[HEAD_SIZE : HEAD_SIZE + size]))
        data = data[HEAD_SIZE + size :]
    return chunks


def join_chunks(chunks: list[tuple[int, bytes]]) -> bytes:
    """The inverse of `cut_chunks`, for the places that an input can say."""
    return b"".join(
        [(place % 2**32).to_bytes(4, "big") + len(chunk).to_bytes(4, "big") + chunk for place, chunk in chunks]
    )


def state_seeds() -> Iterator[bytes]:
    """A new machine, one with two customers, one whose ring has wrapped around."""
    for orders in (0, 3, RECENT_ORDERS + 20):
        machine = Orders(recent_orders_max=RECENT_ORDERS)
        for op in range(1, orders + 1):
            key = bytes([op % 256]) if op < RECENT_ORDERS else None
            order = PlaceOrder(op % 2, op, "x1", idempotency_key=key)
            machine.apply(op, op * 1000, [(0, bytes(16), PLACE, encode_place(order))])
        frozen = machine.freeze()
        yield join_chunks([(place, frozen.encode(place)) for place in frozen.places])
        frozen.release()


def change_state(data: bytes, random: Random) -> bytes:
    """Drop, double, move or empty a chunk, or change a number of four or eight bytes in it."""
    chunks = cut_chunks(data)
    if not chunks:
        return data
    at = random.randrange(len(chunks))
    place, chunk = chunks[at]
    match random.randrange(5):
        case 0:
            del chunks[at]
        case 1:
            chunks.insert(at, (place + random.choice((0, 1)), chunk))
        case 2:
            chunks[at] = (random.choice((0, PART_PLACES, _RING_AT, _RING_AT + 1, place + 1)), chunk)
        case 3:
            chunks[at] = (place, change_tree(chunk, random))
        case _:
            size = random.choice((1, 4, 8))
            where = random.randrange(len(chunk) + 1)
            number = int.from_bytes(chunk[where : where + size], "big") + random.choice((-1, 1, 2**31))
            packed = (number % 256**size).to_bytes(size, "big")
            chunks[at] = (place, chunk[:where] + packed + chunk[where + size :])
    return join_chunks(chunks)


HARNESSES = (
    Harness(
        name="manifest",
        about="the manifest of a checkpoint",
        check=check_manifest,
        seeds=manifest_seeds,
        mutate=change_tree,
    ),
    Harness(
        name="sessions",
        about="a chunk of sessions",
        check=check_sessions,
        seeds=session_seeds,
        mutate=change_tree,
    ),
    Harness(
        name="state",
        about="the chunks of the laptop orders, restored, frozen and used",
        check=check_state,
        seeds=state_seeds,
        mutate=change_state,
        size_max=16384,
    ),
)
