"""What voters tell of equal ops: who agrees, and who stands alone (PROTOCOL 9)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

__all__ = ["ADVERTS_MAX", "Adverts"]

ADVERTS_MAX = 4  # The newest ones of each voter count.


class _Advert(Protocol):
    @property
    def op(self) -> int: ...


T = TypeVar("T", bound=_Advert)


class Adverts(Generic[T]):
    """Per replica the last few things it told, each for some op; equal ops should have equal ones."""

    def __init__(self) -> None:
        self._told: dict[int, deque[T]] = {}

    def note(self, replica: int, told: T) -> bool:
        """Take one in, in place of an earlier one for the same op; whether it was news."""
        known = self._told.setdefault(replica, deque(maxlen=ADVERTS_MAX))
        if told in known:
            return False
        earlier = self.by(replica, told.op)
        if earlier is not None:
            known.remove(earlier)  # Its state was replaced meanwhile.
        known.append(told)
        return True

    def forget(self, replica: int) -> None:
        """What `replica` told does not count any more."""
        self._told.pop(replica, None)

    def by(self, replica: int, op: int) -> T | None:
        """What `replica` told for `op`."""
        return next((told for told in self._told.get(replica, ()) if told.op == op), None)

    def count(self, replicas: Iterable[int], told: T) -> int:
        """How many of `replicas` told exactly this."""
        return sum(1 for replica in replicas if told in self._told.get(replica, ()))

    def agreed(self, replicas: Iterable[int], op: int, quorum: int) -> T | None:
        """What at least `quorum` of `replicas` told for `op`."""
        voters = tuple(replicas)
        for replica in voters:
            told = self.by(replica, op)
            if told is not None and self.count(voters, told) >= quorum:
                return told
        return None

    def is_split(self, replicas: Iterable[int], op: int, quorum: int) -> bool:
        """Whether all of `replicas` told for `op` and no value has a quorum: nobody knows who is right."""
        voters = tuple(replicas)
        has_all = all(self.by(replica, op) is not None for replica in voters)
        return has_all and self.agreed(voters, op, quorum) is None
