"""Which log does the new view begin with? A pure function of the do_view_changes (PROTOCOL 6.4).

Only this rule ever truncates. Copies win over denials, and an op goes only when so many voters deny
having acknowledged it that no replication quorum can have done so.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from trio_pb.core.contradiction import ContradictionError
from trio_pb.core.marks import Mark, reach
from trio_pb.core.messages import DoViewChange, EntryState
from trio_pb.core.prepare import PrepareId
from trio_pb.core.quorum import Quorums

__all__ = ["Selected", "Undecided", "select"]


@attrs.frozen
class Selected:
    """The log of the new view, from the commit point on."""

    base: PrepareId  # The highest commit point stated.
    checksums: tuple[bytes, ...]  # Of base.op + 1 .. head.
    holders: dict[int, tuple[int, ...]]  # Op -> replicas that stated to hold the body.
    truncated: int  # Ops of the newest log that were dropped.
    last_timestamp: int

    @property
    def head(self) -> int:
        """The last op that is kept."""
        return self.base.op + len(self.checksums)


@attrs.frozen
class Undecided:
    """Neither a copy nor enough denials of `op`: wait for more voices."""

    op: int


def select(
    logs: Mapping[int, DoViewChange], heads: Mapping[int, int], voters: tuple[int, ...], quorums: Quorums
) -> Selected | Undecided:
    """Choose among `logs` (replica -> its message), of at least a view change quorum of voters.

    `heads` has each sender's head op. Denials are counted over voters only; other replicas may add
    copies or a newer log_view.
    """
    newest = max(message.log_view for message in logs.values())
    canonical = {replica: message for replica, message in logs.items() if message.log_view == newest}
    if len(canonical) < len(logs):
        reach(Mark.OLDER_LOG_OUTVOTED)
    base = max((message.commit for message in logs.values()), key=lambda commit: commit.op)
    head = max(heads[replica] for replica in canonical)
    if head < base.op:  # Beyond the fault model: somebody lost what it acknowledged. No guess.
        reach(Mark.ENDS_BELOW_COMMITTED)
        return Undecided(base.op)
    stated = {replica: {entry.op: entry for entry in message.entries} for replica, message in logs.items()}
    checksums: list[bytes] = []
    holders: dict[int, tuple[int, ...]] = {}
    last_timestamp = max(message.last_timestamp for message in logs.values())
    for op in range(base.op + 1, head + 1):
        known = {
            entry.checksum
            for replica in canonical
            if (entry := stated[replica].get(op)) is not None and entry.checksum is not None
        }
        if len(known) > 1:
            raise ContradictionError(f"two logs of view {newest} have different entries at op {op}")
        checksum = next(iter(known), None)
        copies: list[int] = []
        denials = 0
        for replica in sorted(logs):
            entry = stated[replica].get(op)
            is_same = checksum is not None and entry is not None and entry.checksum == checksum
            if entry is not None and is_same and entry.state is EntryState.PRESENT:
                copies.append(replica)
                continue
            differs = entry is not None and None not in (entry.checksum, checksum) and entry.checksum != checksum
            if differs:
                reach(Mark.OTHER_PREPARE_DENIES)
            if entry is not None and entry.state is EntryState.FAULT:
                reach(Mark.FAULT_ABSTAINS)
            is_denial = op > heads[replica] or differs or (entry is not None and entry.state is EntryState.NACK)
            denials += is_denial and replica in voters
        if copies:
            assert checksum is not None
            if denials >= quorums.nack:
                reach(Mark.COPY_BEATS_DENIALS)
            if not any(replica in canonical for replica in copies):
                reach(Mark.COPY_IN_OLDER_LOG)
            checksums.append(checksum)
            holders[op] = tuple(copies)
        elif denials >= quorums.nack:
            reach(Mark.TRUNCATED)
            return Selected(base, tuple(checksums), holders, head - op + 1, last_timestamp)
        else:
            reach(Mark.UNDECIDED)
            return Undecided(op)
    return Selected(base, tuple(checksums), holders, 0, last_timestamp)
