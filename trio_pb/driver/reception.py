"""What a replica says to clients in its own name: who it is and where it stands.

Greetings and status requests are answered here, from `Replica.report()`, between two turns of the
host's loop; they change nothing and need no turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import trio

from trio_pb.codec.wire import WIRE_VERSION, encode_server
from trio_pb.core.config import Limits
from trio_pb.core.messages import (
    Envelope,
    Greeted,
    Member,
    Reject,
    RejectCode,
    ServerMessage,
    StatusReport,
)
from trio_pb.core.ports import Report

__all__ = [
    "CERTIFIED_OP",
    "CHECKPOINT_OP",
    "LOG_LOW",
    "NOBODY",
    "UNFIT_PREFIX",
    "Reception",
    "ReportsDigest",
    "envelope_of",
    "standing_of",
]

NOBODY = bytes(16)  # The client in a reject of a greeting, which does not name any.
INCARNATION_PREFIX = 8

# Among the counters of a status report.
CHECKPOINT_OP = "checkpoint_op"  # Of its newest checkpoint.
CERTIFIED_OP = "certified_op"  # Of the newest that a quorum agrees on, as far as it knows.
LOG_LOW = "log_low"  # The lowest op whose record was not freed.
UNFIT_PREFIX = "unfit_"  # And a reason: 1 while it should not lead.


DIGEST_PIECES = 64  # Of preparing a digest between two turns: 20 us each at a million records.
DIGEST_SLICES_MAX = 4096  # Then it is taken as it is: every leaf was prepared several times over by then.


class ReportsDigest(Protocol):
    """The part of a state machine that proves its state."""

    def prepare_digest(self, pieces: int) -> bool:
        """Do so many pieces of the work that `digest` would do; return whether none is left."""
        ...

    def digest(self) -> bytes:
        """blake2b-256 of the whole application state."""
        ...


def envelope_of(report: Report, durable_view: int) -> Envelope:
    """What a frame to a client says of its sender; the view is a durable one (R-ENV)."""
    return Envelope(
        cluster=report.cluster,
        replica=report.replica,
        incarnation=report.incarnation[:INCARNATION_PREFIX],
        boot=report.boot,
        epoch=report.configuration.epoch,
        view=min(report.view, durable_view),
        op=report.head,
        commit=report.commit,
        release=report.release,
    )


def standing_of(report: Report) -> dict[str, int]:
    """What a status report says among its counters: checkpoints, the log's low end, reasons not to lead."""
    return {
        CHECKPOINT_OP: report.checkpoint,
        CERTIFIED_OP: report.certified,
        LOG_LOW: report.wal_low,
        **{f"{UNFIT_PREFIX}{reason}": 1 for reason in report.unfit},
    }


class Reception:
    """Answers greetings and status requests."""

    def __init__(
        self,
        *,
        report: Callable[[], Report],
        durable_view: Callable[[], int],
        machine: ReportsDigest,
        limits: Limits,
        addresses: Mapping[int, str],
        counters: Callable[[], dict[str, int]],
    ) -> None:
        self._report = report
        self._durable_view = durable_view
        self._machine = machine
        self._limits = limits
        self._addresses = addresses
        self._counters = counters

    def greeted(self, connection: int) -> bytes:
        """The frame that answers a greet over `connection`."""
        report = self._report()
        replicas = sorted({*report.configuration.voters, *report.configuration.standbys})
        return self._encode(
            report,
            Greeted(
                wire_version=WIRE_VERSION,
                cluster=report.cluster,
                replica=report.replica,
                members=tuple(Member(replica, self._addresses.get(replica, "")) for replica in replicas),
                view=report.view,
                primary=report.primary,
                connection=connection,
                request_size_max=self._limits.request_size_max,
                window=self._limits.session_window,
                release=report.release,
            ),
        )

    async def status(self) -> bytes:
        """The frame that answers a status request: our positions, and the digest as of `applied`.

        With a large state the digest takes a second. It is prepared in slices, between which others have
        their turns; what these change is prepared again.
        """
        for _ in range(DIGEST_SLICES_MAX):
            if self._machine.prepare_digest(DIGEST_PIECES):
                break
            await trio.lowlevel.checkpoint()
        report = self._report()  # From here to the end nobody has a turn.
        return self._encode(
            report,
            StatusReport(
                replica=report.replica,
                status=report.status,
                is_primary=report.is_primary,
                view=report.view,
                log_view=report.log_view,
                head=report.head,
                commit=report.commit,
                applied=report.applied,
                state_op=report.applied,  # Between two turns the state machine is exactly there.
                state_digest=self._machine.digest(),
                peers=report.peers,
                counters=tuple(sorted({**dict(report.counters), **self._counters(), **standing_of(report)}.items())),
            ),
        )

    def refusal(self, code: RejectCode) -> bytes:
        """The frame that tells a client why its connection will be closed."""
        report = self._report()
        return self._encode(
            report,
            Reject(
                client=NOBODY,
                session=0,
                number=0,
                code=code,
                primary=None,
                primary_address="",
                retry_ms=0,
            ),
        )

    def _encode(self, report: Report, message: ServerMessage) -> bytes:
        return encode_server(envelope_of(report, self._durable_view()), message)
