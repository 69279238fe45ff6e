"""A lock service: whoever holds a lock may give it back, and the next in line gets it.

Every grant has a number that only rises (a fencing token), so that whoever slept through the loss of a lock
can be told apart from its present holder.

    trio-pb sim run examples/locks.py:Locks --workload examples/lock_requests.py:requests --seeds 100
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from trio_pb import canonical
from trio_pb.app.blob import Blob
from trio_pb.app.machine import Page, Question, RejectedError, StateMachine, command, decode_array, encode_value, query
from trio_pb.app.parts import MalformedStateError, Part

ACQUIRE = 2
RELEASE = 3
HOLDER = 0

WAITING_MAX = 16  # For one lock: every queue needs a bound.

# Name of the lock -> (token of the last grant, clients: the holder first, then those in line).
State: TypeAlias = dict[str, tuple[int, list[bytes]]]


class Locks(StateMachine):
    """Locks by name."""

    def __init__(self) -> None:
        super().__init__()
        self.locks: State = {}

    def parts(self) -> Sequence[Part]:
        """All locks that anybody ever held: the tokens must go on rising."""
        return [Blob(encode=self._encode, decode=_decode, adopt=self._adopt)]

    def _encode(self) -> bytes:
        # Sorted: the order in which locks were first asked for must not matter.
        return canonical.encode([[name, token, line] for name, (token, line) in sorted(self.locks.items())])

    def _adopt(self, locks: State) -> None:
        self.locks = locks

    @command(ACQUIRE)
    def acquire(self, body: bytes, client: bytes, timestamp: int) -> bytes:
        """Take a lock or stand in line; answers the token of the grant, 0 while waiting."""
        name = _name(body)
        token, line = self.locks.get(name, (0, []))
        if client in line:
            raise RejectedError("already_asked", "name", f"{name} is yours, or you wait for it")
        if len(line) >= WAITING_MAX:
            raise RejectedError("busy", "name", f"{WAITING_MAX} clients wait for {name}")
        token += not line
        self.locks[name] = (token, [*line, client])
        return encode_value(0 if line else token)

    @command(RELEASE)
    def release(self, body: bytes, client: bytes, timestamp: int) -> bytes:
        """Give a lock back, or stand in line no more; answers the token of the present holder."""
        name = _name(body)
        token, line = self.locks.get(name, (0, []))
        if client not in line:
            raise RejectedError("not_yours", "name", f"you neither hold {name} nor wait for it")
        rest = [waiting for waiting in line if waiting != client]
        token += line[0] == client and bool(rest)
        self.locks[name] = (token, rest)
        return encode_value(token)

    @query(HOLDER)
    def holder(self, question: Question) -> Page:
        """Answer who holds a lock, and the token."""
        token, line = self.locks.get(_name(question.body), (0, []))
        return Page(encode_value([line[0] if line else None, token]))


def _name(body: bytes) -> str:
    (name,) = decode_array(body, "name", 1)
    if type(name) is not str or not 0 < len(name) <= 100:
        raise RejectedError("bad_field", "name", "must be text of 1 to 100 characters")
    return name


def _decode(data: bytes) -> State:
    locks: State = {}
    match canonical.decode(data):
        case list(entries):
            for entry in entries:
                match entry:
                    case [str(name), int(token), list(line)] if all(type(client) is bytes for client in line):
                        locks[name] = (token, [client for client in line if type(client) is bytes])
                    case _:
                        raise MalformedStateError("a lock is [name, token, [client, ...]]")
        case _:
            raise MalformedStateError("the state of the locks is an array")
    return locks
