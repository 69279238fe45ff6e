"""One tree of exceptions; each class has a stable code and says whether a retry helps.

Three families. *Ours to the caller*: `LocalProtocolError`, `ConfigError`. *Theirs to us*:
`RemoteProtocolError`, which costs the sender its connection. *The outcome of a request*, raised by
the clients: the class says which of the three outcomes it was (`NotSentError`, `NotAppliedError`,
`UnknownOutcomeError`).
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ConfigError",
    "DataDirectoryError",
    "DeadlineError",
    "DiskFullError",
    "LocalProtocolError",
    "NotAppliedError",
    "NotSentError",
    "RemoteProtocolError",
    "ReplicaStoppedError",
    "SessionLostError",
    "SnapshotGoneError",
    "StorageError",
    "TrioPbError",
    "UnknownOutcomeError",
]


class TrioPbError(Exception):
    """Base of every exception that trio_pb raises on purpose.

    `code` is stable across releases and names the section of docs/errors.md; `retryable` says
    whether the same call may succeed later without a change on the caller's side.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False


class ConfigError(TrioPbError):
    """A flag, file or limit makes no sense; the message names it and what to write instead."""

    code = "config"


class LocalProtocolError(TrioPbError):
    """Our own caller broke the rules of an interface (not a peer, not a client)."""

    code = "local_protocol"


class RemoteProtocolError(TrioPbError):
    """Bytes or a message from outside break the protocol; the connection is not worth keeping."""

    code = "remote_protocol"


class DataDirectoryError(TrioPbError):
    """A data directory is missing, foreign, newer than this program, or in use. Nothing was touched."""

    code = "data_directory"


class StorageError(TrioPbError):
    """A write or flush failed, or storage cannot be trusted any more: the replica must stop (R-IOERR)."""

    code = "storage"


class DiskFullError(StorageError):
    """There is no room for a new file or a longer one; nothing was lost, and freeing space helps."""

    code = "disk_full"
    retryable = True


class ReplicaStoppedError(TrioPbError):
    """The replica stopped by itself. `reason` is the stable name of the cause."""

    code = "replica_stopped"

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason


class NotSentError(TrioPbError):
    """The request never left this process: it certainly has no effect."""

    code = "not_sent"
    retryable = True


class NotAppliedError(TrioPbError):
    """The cluster refused the request before it was ordered: it certainly has no effect.

    `reason` is the name of the refusal (for example `too_large` or `bad_request`).
    """

    code = "not_applied"

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class UnknownOutcomeError(TrioPbError):
    """The request was sent and no answer came: it may or may not have been applied."""

    code = "unknown_outcome"


class DeadlineError(UnknownOutcomeError):
    """The deadline passed while an answer was outstanding; the outcome is unknown."""

    code = "deadline"


class SessionLostError(UnknownOutcomeError):
    """The cluster evicted our session, so it can no longer tell whether the request was applied."""

    code = "session_lost"


class SnapshotGoneError(TrioPbError):
    """The snapshot that a scan was reading from no longer exists; start the scan again."""

    code = "snapshot_gone"
    retryable = True
