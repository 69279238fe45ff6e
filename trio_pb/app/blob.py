"""A part of state that is one small chunk: all of it is encoded whenever it is frozen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from trio_pb.app.chunks import Record, record_of
from trio_pb.app.parts import MalformedStateError

__all__ = ["Blob"]

T = TypeVar("T")


class Blob(Generic[T]):
    """What `encode` says, as one chunk.

    `encode` returns the present contents as bytes: equal contents, equal bytes (`canonical.encode` does
    that). It is called at each freeze and digest, so it must be quick: milliseconds are too much. `decode`
    makes a value of such bytes and changes nothing; it takes any bytes, and raises ValueError
    (`CanonicalError` is one) or MalformedStateError for all that `encode` cannot have made. `adopt`
    makes that value the present contents, and cannot fail.
    """

    __slots__ = ("_adopt", "_decode", "_encode", "_record")

    def __init__(
        self, *, encode: Callable[[], bytes], decode: Callable[[bytes], T], adopt: Callable[[T], object]
    ) -> None:
        self._encode = encode
        self._decode = decode
        self._adopt = adopt
        self._record: Record | None = None  # What was encoded or restored last.

    def freeze(self) -> FrozenBlob:
        """Encode the present contents."""
        return FrozenBlob(self._encode(), self._record, self._remember)

    def restoring(self) -> RestoringBlob[T]:
        """Begin to restore."""
        return RestoringBlob(self._decode, self._replace)

    def prepare_digest(self, pieces: int) -> int:
        """Do nothing: there is nothing to be done ahead."""
        del pieces
        return 0

    def digest(self) -> bytes:
        """Return blake2b-256 of the present contents."""
        return record_of(self._encode())[0]

    def _remember(self, record: Record) -> None:
        self._record = record

    def _replace(self, value: T, record: Record) -> None:
        self._adopt(value)
        self._record = record


class FrozenBlob:
    """The bytes of a Blob as they were."""

    __slots__ = ("_data", "_known", "_record", "_remember")

    def __init__(self, data: bytes, known: Record | None, remember: Callable[[Record], None]) -> None:
        self._data = data
        self._record = record_of(data)
        # A record is a digest, so it holds for whatever is equal, however often that changed in between.
        self._known = known if known == self._record else None
        self._remember = remember

    @property
    def indexes(self) -> Sequence[int]:
        """The only chunk."""
        return (0,)

    def known(self, index: int) -> Record | None:
        """Return digest and size if they are those encoded or restored last."""
        assert index == 0
        return self._known

    def encode(self, index: int) -> bytes:
        """Return the bytes."""
        assert index == 0
        self._known = self._record
        self._remember(self._record)
        return self._data

    def release(self) -> None:
        """Nothing is pinned."""


class RestoringBlob(Generic[T]):
    """A Blob's value, once its chunk was put."""

    __slots__ = ("_decode", "_replace", "_value")

    def __init__(self, decode: Callable[[bytes], T], replace: Callable[[T, Record], None]) -> None:
        self._decode = decode
        self._replace = replace
        self._value: tuple[T, Record] | None = None

    @property
    def value(self) -> T:
        """What was decoded.

        Raises:
            MalformedStateError: nothing was.
        """
        return self._put_value()[0]

    def put(self, index: int, data: bytes) -> None:
        """Decode the only chunk."""
        if index != 0:
            raise MalformedStateError(f"chunk {index} of a part with one chunk")
        try:
            self._value = self._decode(data), record_of(data)
        except ValueError as error:
            raise MalformedStateError(str(error)) from error

    def finish(self) -> None:
        """Check that the chunk was put."""
        self._put_value()

    def adopt(self) -> Sequence[object]:
        """Replace the contents."""
        self._replace(*self._put_value())
        return ()

    def _put_value(self) -> tuple[T, Record]:
        if self._value is None:
            raise MalformedStateError("the only chunk of a part is missing")
        return self._value
