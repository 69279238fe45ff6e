"""The log in memory: which prepare stands at each op, and how safely we hold it (PROTOCOL 2.4).

Identities of all ops above `base` are kept, bodies only of the newest and of those that are
not yet durable. An identity may be unknown below the commit point after a jump to a newer log; it is
asked for by R-IDS.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from trio_pb.core.contradiction import ContradictionError
from trio_pb.core.prepare import Prepare, PrepareId

__all__ = ["Hold", "Log"]


class Hold(IntEnum):
    """How this replica holds the body of one op."""

    MISSING = 0
    FOUND = 1  # A restart found it on disk, not proven durable: append it again before relying on it.
    HELD = 2  # In memory, append in flight.
    DURABLE = 3


class Log:
    """Ops (base, head] by identity. What stands at or below `base` is committed, and was let go of.

    Invariants: a known body's parent is the known identity below it (INV-16);
    durable_prefix <= appended_prefix <= head.
    """

    def __init__(self, base: PrepareId) -> None:
        self.base = base
        self.head = base.op  # The highest op whose identity we hold.
        self._checksums: list[bytes | None] = [base.checksum]  # Index: op - base.op.
        self._holds = bytearray([Hold.DURABLE])
        self._bodies: dict[int, Prepare] = {}  # Everything HELD, and a cache of the rest.
        self.durable_prefix = base.op  # All of (base, durable_prefix] is DURABLE and identified.
        self.appended_prefix = base.op  # The same for HELD or better.
        self._unknown_below = base.op  # No identity at or below this op is unknown (a hint, only rises).

    @property
    def head_checksum(self) -> bytes:
        """Identity of the head; always known."""
        checksum = self._checksums[-1]
        assert checksum is not None, "the head of a log is always identified"
        return checksum

    def checksum(self, op: int) -> bytes | None:
        """The identity at `op`, or None when unknown or out of range."""
        index = op - self.base.op
        return self._checksums[index] if 0 <= index < len(self._checksums) else None

    def id(self, op: int) -> PrepareId:
        """The identity at `op`, which must be known."""
        checksum = self.checksum(op)
        assert checksum is not None, f"op {op} is not identified"
        return PrepareId(op, checksum)

    def hold(self, op: int) -> Hold:
        """How we hold the body at `op`."""
        index = op - self.base.op
        return Hold(self._holds[index]) if 0 <= index < len(self._holds) else Hold.MISSING

    def body(self, op: int) -> Prepare | None:
        """The body at `op` if it is in memory."""
        return self._bodies.get(op)

    @property
    def bodies_in_memory(self) -> int:
        """Size of the body cache."""
        return len(self._bodies)

    def checksums_above(self, op: int) -> tuple[bytes, ...]:
        """Identities of (op, head], which must all be known."""
        checksums = self._checksums[op - self.base.op + 1 :]
        known = tuple(checksum for checksum in checksums if checksum is not None)
        assert len(known) == len(checksums), "an op above the commit point is not identified"
        return known

    def joined_checksums(self, low: int, high: int) -> bytes:
        """Identities of low..high joined, 16 bytes each, for proofs; all must be known."""
        parts = self._checksums[low - self.base.op : high - self.base.op + 1]
        return b"".join(part for part in parts if part is not None)

    def is_identified(self, low: int, high: int) -> bool:
        """Whether every identity of low..high is known."""
        return None not in self._checksums[low - self.base.op : high - self.base.op + 1]

    # --- Growth and repair --------------------------------------------------------------------

    def append(self, prepare: Prepare) -> None:
        """Take `prepare` as the new head; its append to the journal is the caller's next act."""
        assert prepare.op == self.head + 1, "the log grows by one op"
        assert prepare.parent == self.head_checksum, "INV-16: the log is a hash chain"
        self._checksums.append(prepare.checksum)
        self.head += 1
        self._holds.append(Hold.HELD)
        self._bodies[prepare.op] = prepare
        if self.appended_prefix == prepare.op - 1:
            self.appended_prefix = prepare.op

    def extend_identities(self, checksums: Sequence[bytes]) -> None:
        """Learn identities above the head, without bodies."""
        self._checksums.extend(checksums)
        self.head += len(checksums)
        self._holds.extend(bytes([Hold.MISSING]) * len(checksums))

    def learn(self, op: int, checksum: bytes) -> None:
        """Learn one identity that was unknown."""
        assert self.checksum(op) in (None, checksum), f"op {op} would change its identity"
        self._checksums[op - self.base.op] = checksum

    def forget_identity(self, op: int) -> None:
        """The identity at `op` is not known after all."""
        assert op < self.head, "the head of a log is always identified"
        self._checksums[op - self.base.op] = None

    def fill(self, prepare: Prepare) -> None:
        """Take the body of an identified op; its append to the journal is the caller's next act."""
        assert self.checksum(prepare.op) == prepare.checksum, "a body belongs to its identity"
        below = self.checksum(prepare.op - 1)
        assert below in (None, prepare.parent), "INV-16: the log is a hash chain"
        if below is None and prepare.op - 1 > self.base.op:
            self.learn(prepare.op - 1, prepare.parent)
        self._bodies[prepare.op] = prepare
        index = prepare.op - self.base.op
        if self._holds[index] < Hold.HELD:
            self._holds[index] = Hold.HELD
            self._advance_prefixes()

    def cache(self, prepare: Prepare) -> None:
        """Keep in memory a body that we hold on disk."""
        assert self.checksum(prepare.op) == prepare.checksum, "a body belongs to its identity"
        self._bodies[prepare.op] = prepare

    def mark_durable(self, id: PrepareId) -> None:  # noqa: A002 -- the paper's word for it
        """The record of `id` is durable; ignored when another prepare stands there now."""
        if self.checksum(id.op) == id.checksum:
            self._holds[id.op - self.base.op] = Hold.DURABLE
            if id.op == self.durable_prefix + 1:
                self._advance_prefixes()

    def mark_found(self, op: int, hold: Hold) -> None:
        """A restart found the record of `op`."""
        self._holds[op - self.base.op] = hold

    def lose(self, op: int) -> None:
        """The body at `op` turned out unreadable."""
        self._holds[op - self.base.op] = Hold.MISSING
        self._bodies.pop(op, None)
        self.durable_prefix = min(self.durable_prefix, op - 1)
        self.appended_prefix = min(self.appended_prefix, op - 1)

    def settle_prefixes(self) -> None:
        """Recompute both prefixes after many marks."""
        self._advance_prefixes()

    def missing(self, low: int, high: int, count_max: int) -> list[int]:
        """Up to `count_max` identified ops of low..high without a body, ascending."""
        found: list[int] = []
        index = max(low, self.base.op + 1) - self.base.op
        end = min(high, self.head) - self.base.op + 1
        while len(found) < count_max:
            index = self._holds.find(Hold.MISSING, index, end)
            if index < 0:
                break
            if self._checksums[index] is not None:
                found.append(index + self.base.op)
            index += 1
        return found

    def lowest_unknown(self) -> int | None:
        """The lowest op whose identity is unknown."""
        try:
            index = self._checksums.index(None, self._unknown_below - self.base.op)
        except ValueError:
            self._unknown_below = self.head
            return None
        self._unknown_below = index + self.base.op - 1
        return index + self.base.op

    def drop_bodies(self, keep_above: int) -> None:
        """Forget cached bodies at or below `keep_above` that are durable."""
        old = [op for op in self._bodies if op <= keep_above and self._holds[op - self.base.op] == Hold.DURABLE]
        for op in old:
            del self._bodies[op]

    # --- Letting go -------------------------------------------------------------------------------

    def free(self, op: int) -> None:
        """Forget everything below `op`, which is identified, checkpointed and becomes the new base (R-GC)."""
        index = op - self.base.op
        if index <= 0:
            return
        self.rebase(self.id(op))

    def rebase(self, base: PrepareId) -> None:
        """Let the log begin at a checkpoint, keeping what stands above it and continues it (PROTOCOL 8.2, 4).

        A log that ends below, or that has another prepare there, becomes empty: what it holds above
        such a prepare chains to one that no log has any more.
        """
        index = base.op - self.base.op
        assert index >= 0, "the base of a log only rises"
        known = self.checksum(base.op)
        if base.op > self.head or known not in (None, base.checksum):
            self._checksums = [base.checksum]
            self._holds = bytearray([Hold.DURABLE])
            self._bodies.clear()
        else:
            del self._checksums[:index]
            del self._holds[:index]
            self._checksums[0] = base.checksum
            self._holds[0] = Hold.DURABLE
            for op in [op for op in self._bodies if op <= base.op]:
                del self._bodies[op]
        self.base = base
        self.head = base.op + len(self._checksums) - 1
        self.durable_prefix = max(self.durable_prefix, base.op) if self.head > base.op else base.op
        self.appended_prefix = max(self.appended_prefix, base.op) if self.head > base.op else base.op
        self._unknown_below = max(self._unknown_below, base.op) if self.head > base.op else base.op
        self._advance_prefixes()

    # --- Another log ----------------------------------------------------------------------------

    def common_prefix(self, base: PrepareId, checksums: Sequence[bytes], commit_max: int) -> int:
        """The highest op known to be equal here and in a log given from `base` on (PROTOCOL 6.5, 1)."""
        base, checksums = self._above_our_base(base, checksums)
        for op in range(min(self.head, base.op + len(checksums)), base.op - 1, -1):
            theirs = base.checksum if op == base.op else checksums[op - base.op - 1]
            if self.checksum(op) == theirs:
                return op  # A hash chain that agrees here agrees everywhere below.
        return min(commit_max, self.head, base.op)

    def adopt(self, base: PrepareId, checksums: Sequence[bytes], common: int) -> Log:
        """The log that starts as ours up to `common` and goes on as given from `base` on.

        Ours stays as it is: which of the two counts is decided by what becomes durable.
        """
        base, checksums = self._above_our_base(base, checksums)
        log = Log(self.base)
        kept = common - self.base.op + 1
        log._checksums = self._checksums[:kept]
        log._holds = self._holds[:kept]
        log._bodies = {op: body for op, body in self._bodies.items() if op <= common}
        for op in range(base.op, common + 1):  # What we had to guess about, the given log may know.
            known = base.checksum if op == base.op else checksums[op - base.op - 1]
            log._checksums[op - self.base.op] = known
        unknown = max(0, base.op - common - 1)
        log._checksums.extend([None] * unknown)
        given = [base.checksum, *checksums] if base.op > common else checksums[common - base.op :]
        log._checksums.extend(given)
        log.head = self.base.op + len(log._checksums) - 1
        log._holds.extend(bytes([Hold.MISSING]) * (len(log._checksums) - len(log._holds)))
        log.durable_prefix = min(self.durable_prefix, common)
        log.appended_prefix = min(self.appended_prefix, common)
        log._advance_prefixes()
        return log

    def _above_our_base(self, base: PrepareId, checksums: Sequence[bytes]) -> tuple[PrepareId, Sequence[bytes]]:
        """Leave out of a given log what lies below our base: it is committed, so both agree about it."""
        below = self.base.op - base.op
        if below <= 0:
            return base, checksums
        assert below <= len(checksums), "a log ends below what is committed"
        if checksums[below - 1] != self.base.checksum:
            raise ContradictionError(f"another entry than the one committed here stands at op {self.base.op} (INV-2)")
        return self.base, checksums[below:]

    def inherit(self, other: Log) -> None:
        """Take over from `other` the identities and bodies that fit this log as well."""
        self._inherit_identities(other)
        shift = self.base.op - other.base.op  # Either may have let go of more than the other.
        for op in range(max(self.appended_prefix, other.base.op) + 1, min(self.head, other.head) + 1):
            index = op - self.base.op
            if self._checksums[index] is None or self._checksums[index] != other._checksums[index + shift]:
                continue
            body = other._bodies.get(op)
            if body is not None:
                self._bodies[op] = body
            self._holds[index] = max(self._holds[index], other._holds[index + shift])
        self._advance_prefixes()

    def _inherit_identities(self, other: Log) -> None:
        unknown = self.lowest_unknown()
        if unknown is None:
            return
        for agreed in range(min(self.head, other.head), unknown, -1):
            known = self.checksum(agreed)
            if known is not None and known == other.checksum(agreed):
                for op in range(unknown, agreed):  # Equal here, so equal everywhere below.
                    below = other.checksum(op)
                    if self.checksum(op) is None and below is not None:
                        self.learn(op, below)
                return

    def _advance_prefixes(self) -> None:
        holds, base = self._holds, self.base.op
        index = self.durable_prefix - base + 1
        while index < len(holds) and holds[index] == Hold.DURABLE and self._checksums[index] is not None:
            index += 1
        self.durable_prefix = base + index - 1
        index = max(self.appended_prefix, self.durable_prefix) - base + 1
        while index < len(holds) and holds[index] >= Hold.HELD and self._checksums[index] is not None:
            index += 1
        self.appended_prefix = base + index - 1
