"""What a checkpoint needs of a state machine: parts of state that freeze and restore chunk by chunk (PROTOCOL 9).

A machine names its parts (`StateMachine.parts`); `Blob`, `Buckets` and `Ring` are parts, and whatever has
the methods of `Part` is one. A part numbers its chunks from 0 as it likes, and a chunk's place in the
machine is that number plus the number of the part times PART_PLACES. So places never collide, and
depend on nothing but the order in which the parts are named.

Replicas compare checkpoints by the bytes of their chunks: equal state has to give equal chunks,
whatever came before it and whenever it is encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trio_pb.errors import RemoteProtocolError

__all__ = [
    "PART_PLACES",
    "Frozen",
    "FrozenPart",
    "MalformedStateError",
    "Part",
    "Restoring",
    "RestoringPart",
]

PART_PLACES = 1 << 20  # Chunks that one part may have. A power of two, so that places stay small in a manifest.


class MalformedStateError(RemoteProtocolError):
    """Bytes are not a chunk of the state of this machine, or chunks do not go together."""

    code = "malformed_state"


class FrozenPart(Protocol):
    """A part as it was at one moment."""

    @property
    def indexes(self) -> Sequence[int]:
        """The chunks that hold anything, rising."""
        ...

    def known(self, index: int) -> tuple[bytes, int] | None:
        """Return digest and size of a chunk that did not change since it was encoded or restored, else None."""
        ...

    def encode(self, index: int) -> bytes:
        """Return the bytes of a chunk."""
        ...

    def release(self) -> None:
        """Let go of it; a second time changes nothing."""
        ...


class RestoringPart(Protocol):
    """A part that comes into being beside the present one."""

    def put(self, index: int, data: bytes) -> None:
        """Decode one chunk; MalformedStateError for bytes or an index that no frozen part would give."""
        ...

    def finish(self) -> None:
        """Check that the chunks put are a whole; MalformedStateError if not."""
        ...

    def adopt(self) -> Sequence[object]:
        """Replace the present part, at once. Return what is left of that, in pieces quickly freed."""
        ...


class Part(Protocol):
    """A part of the state of a machine."""

    def freeze(self) -> FrozenPart:
        """Pin the present contents, at a cost that does not grow with them."""
        ...

    def restoring(self) -> RestoringPart:
        """Begin to restore; the present contents stay."""
        ...

    def prepare_digest(self, pieces: int) -> int:
        """Do at most `pieces` pieces, of well under a millisecond each, of what `digest` must; return how many."""
        ...

    def digest(self) -> bytes:
        """Return blake2b-256 of the contents; equal contents have equal digests."""
        ...


class Frozen:
    """The state of a machine as it was at one moment, in chunks by place. Release it when done."""

    __slots__ = ("_parts", "_places")

    def __init__(self, parts: Sequence[FrozenPart]) -> None:
        self._parts = parts
        self._places: tuple[int, ...] | None = None

    @property
    def places(self) -> Sequence[int]:
        """The places of all chunks that hold anything, rising."""
        if self._places is None:
            self._places = tuple(
                number * PART_PLACES + index for number, part in enumerate(self._parts) for index in part.indexes
            )
        return self._places

    def known(self, place: int) -> tuple[bytes, int] | None:
        """Return digest (blake2b-256) and size of a chunk that need not be encoded to be named.

        It did not change since it was encoded by this or an earlier Frozen, or restored. Whether what
        was encoded then was also kept, only the caller knows.
        """
        number, index = divmod(place, PART_PLACES)
        return self._parts[number].known(index)

    def encode(self, place: int) -> bytes:
        """Return the bytes of one chunk as of the freeze; it is known from then on, until it changes."""
        number, index = divmod(place, PART_PLACES)
        return self._parts[number].encode(index)

    def release(self) -> None:
        """Let go: writers need not spare this version any more. A second time changes nothing."""
        for part in self._parts:
            part.release()


class Restoring:
    """A state that comes into being beside the present one. Drop it after an error."""

    __slots__ = ("_is_adopted", "_last_place", "_restoring", "parts")

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self.parts = parts  # Of the machine that may adopt it.
        self._restoring = [part.restoring() for part in parts]
        self._last_place = -1
        self._is_adopted = False

    def put(self, place: int, data: bytes) -> None:
        """Decode one chunk. Chunks come by rising place: the first ones say how to read the others.

        Raises:
            MalformedStateError: the bytes are no chunk of this place, or this is not the turn of this place.
        """
        number, index = divmod(place, PART_PLACES)
        if not self._last_place < place < len(self._restoring) * PART_PLACES:
            raise MalformedStateError(f"place {place} after {self._last_place}, with {len(self._restoring)} parts")
        self._last_place = place
        self._restoring[number].put(index, data)

    def finish(self) -> None:
        """Check that nothing is missing; any number of times.

        Raises:
            MalformedStateError: chunks are missing that others speak of.
        """
        for part in self._restoring:
            part.finish()

    def adopt(self) -> list[object]:
        """Replace the present state, at once; for `StateMachine.adopt`. Return what is left of it, in pieces."""
        assert not self._is_adopted, "what was adopted belongs to the machine now"
        self.finish()  # Of all parts before any is replaced.
        self._is_adopted = True
        return [piece for part in self._restoring for piece in part.adopt()]
