"""Every limit and every timeout by name, checked once at start (PROTOCOL 5.1, 6.1).

All replicas of a cluster must run with equal `Limits`; `Timeouts` may differ.
"""

from __future__ import annotations

import sys

import attrs

from trio_pb.errors import ConfigError

__all__ = ["TICK_MS", "Limits", "Options", "Timeouts", "refuse_optimised_python"]

TICK_MS = 10

MIB = 1 << 20


@attrs.frozen(kw_only=True)
class Limits:
    """Bounds of every queue, batch and window."""

    pipeline_max: int = 32  # PIPE: prepares above commit_max at a primary.
    pipeline_bytes_max: int = 16 * MIB
    pipeline_eager_max: int = 4  # Below this many in flight a batch need not be full.
    batch_requests_max: int = 256
    batch_bytes_full: int = MIB // 2  # A batch of this size goes out even when the pipeline is busy.
    payload_size_max: int = MIB
    request_size_max: int = 256 * 1024  # Bytes of one request body.
    queue_requests_max: int = 4096
    queue_bytes_max: int = 16 * MIB
    session_window: int = 8  # W: numbers in flight, and replies kept, per session.
    sessions_max: int = 8192
    body_cache_ops: int = 256  # Bodies kept in memory below the head.
    prepare_buffer_max: int = 64  # Prepares above a gap that a backup keeps.
    send_window_ops: int = 256  # A peer lagging by more pulls by repair.
    checkpoint_interval_ops: int = 1024  # CP_INTERVAL: every multiple of it is a checkpoint.
    wal_ops: int = 4096  # WAL_OPS: the head may lead the certified checkpoint by this much.
    entries_max: int = 256  # Ops listed in a do_view_change.
    repair_requests_max: int = 8  # get_prepares outstanding.
    repair_wanted_max: int = 32  # Prepares in one get_prepares.
    repair_serve_bytes_max: int = 2 * MIB  # Per peer and 10 ticks.
    wal_reads_max: int = 256  # Record reads outstanding; a restart replays the log through them.
    chunk_requests_max: int = 4  # get_chunk outstanding.
    chunk_piece_max: int = 256 * 1024  # Bytes asked for by one get_chunk.
    reads_max: int = 4096  # Reads waiting at a replica.
    probe_interval_ops: int = 64

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(Limits):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"limit {field.name}: {value!r} is not a positive whole number")
        if self.request_size_max + 1024 > self.payload_size_max:
            raise ConfigError("limit request_size_max: must be at least 1 KiB below payload_size_max")
        if self.pipeline_max > self.entries_max:
            raise ConfigError("limit pipeline_max: must not exceed entries_max, or a view change loses sight of ops")
        if self.pipeline_max > self.body_cache_ops:
            raise ConfigError("limit pipeline_max: must not exceed body_cache_ops")
        if self.wal_ops < 2 * self.checkpoint_interval_ops:
            raise ConfigError("limit wal_ops: must be at least two checkpoint intervals, or writes stop between them")
        if self.session_window > 64:
            raise ConfigError("limit session_window: at most 64")


@attrs.frozen(kw_only=True)
class Timeouts:
    """Timers in ticks of 10 ms (PROTOCOL 6.1). J(x) there is `*_jitter_ticks` here."""

    heartbeat_ticks: int = 5  # T_HB
    ping_ticks: int = 10  # T_PING
    alive_ticks: int = 50  # A peer is alive when it answered a ping within this time.
    suspect_ticks: int = 50  # T_SUSPECT
    suspect_jitter_ticks: int = 25
    check_quorum_ticks: int = 40  # T_CQ
    disk_ticks: int = 100  # T_DISK
    stall_ticks: int = 300  # T_STALL, doubled at most twice.
    wish_ticks: int = 10  # T_SVC
    wish_life_ticks: int = 40  # WISH_TTL
    do_view_change_ticks: int = 20  # T_DVC
    view_change_ticks: int = 100  # T_VC, doubled up to view_change_ticks_max.
    view_change_ticks_max: int = 1600
    view_change_total_ticks: int = 3000  # Progress extends T_VC at most this long per view.
    forgive_ticks: int = 1000  # Normal operation after which back-offs return to zero.
    unfit_ticks: int = 500  # After a forfeit.
    repair_ticks: int = 20  # Per get_prepares, doubled up to repair_ticks_max.
    repair_ticks_max: int = 160
    stale_answer_ticks: int = 10  # At most one ping per peer and this time answers stale messages (R-STALE).
    hello_ticks: int = 20
    transfer_ticks: int = 100
    checkpoint_retry_ticks: int = 500  # After one that failed for want of space.
    checkpoint_pin_ticks: int = 3000  # A checkpoint is kept this long after the last request for it.
    scrub_ticks: int = 100  # Between two slices of scrubbing.
    space_ticks: int = 100  # Between two looks whether a full disk has space again.

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(Timeouts):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"timeout {field.name}: {value!r} is not a positive whole number of ticks")
        if self.heartbeat_ticks * 3 > self.suspect_ticks:
            raise ConfigError("timeout suspect_ticks: must be at least three heartbeats")
        if self.heartbeat_ticks * 3 > self.check_quorum_ticks:
            raise ConfigError("timeout check_quorum_ticks: must be at least three heartbeats")


@attrs.frozen(kw_only=True)
class Options:
    """What a replica is told beside its disk: limits, timers, the seed of its jitter, addresses."""

    limits: Limits = attrs.field(factory=Limits)
    timeouts: Timeouts = attrs.field(factory=Timeouts)
    seed: int = 0  # Of the cluster; jitter also depends on replica and boot.
    addresses: tuple[tuple[int, str], ...] = ()  # (replica, advertised host:port), for hints to clients.
    release: int = 1
    release_min: int = 1


def refuse_optimised_python() -> None:
    """Raise unless asserts are on: they are part of the protocol's safety (STYLE: asserts).

    Raises:
        ConfigError: Python runs with -O or PYTHONOPTIMIZE.
    """
    if sys.flags.optimize:
        raise ConfigError("python -O (or PYTHONOPTIMIZE) removes the safety checks; start without it")
