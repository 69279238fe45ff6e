"""Quorum arithmetic (PROTOCOL 2.5): pure, the table is the whole supported set."""

from __future__ import annotations

import attrs

from trio_pb.errors import ConfigError

__all__ = ["REPLICA_MAX", "VOTERS_MAX", "Quorums", "quorums_of"]

VOTERS_MAX = 7
REPLICA_MAX = 1023  # Ids are 0 to 1023 (R-PRIMARY).


@attrs.frozen(kw_only=True)
class Quorums:
    """How many distinct voters each decision needs in a configuration of `voters`."""

    voters: int
    replication: int  # q_r: acknowledgements that commit.
    view_change: int  # q_vc: wishes that move, and logs that start, a view.
    nack: int  # q_nack: denials that prove no replication quorum ever acknowledged.
    read: int  # q_read: echoes that prove no newer view was promised.
    certify: int  # q_cert: equal checkpoints that certify one.


def quorums_of(voters: int) -> Quorums:
    """Return the quorums of a configuration with `voters` voters.

    Raises:
        ConfigError: unless 1 <= voters <= 7.
    """
    if not 1 <= voters <= VOTERS_MAX:
        raise ConfigError(f"{voters} voters: a cluster has 1 to {VOTERS_MAX}")
    majority = voters // 2 + 1
    # Even sizes from 4 replicate to one fewer than a majority; the view change quorum makes up for it.
    replication = voters // 2 if voters >= 4 and voters % 2 == 0 else majority
    table = Quorums(
        voters=voters,
        replication=replication,
        view_change=majority,
        nack=voters - replication + 1,
        read=voters - majority + 1,
        certify=majority,
    )
    assert table.replication + table.view_change > voters, "R-QUORUM: a commit must meet every view change"
    assert table.view_change >= majority, "R-QUORUM: two views must not start side by side"
    assert table.read + table.view_change > voters, "a read round must meet every view change"
    return table
