"""Replicated state machines on Trio: Viewstamped Replication with a real disk under it.

`async with trio_pb.connect([...]) as client` is the door for programs; `trio-pb` is the one for people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_pb.errors import (
    ConfigError,
    DataDirectoryError,
    DeadlineError,
    DiskFullError,
    LocalProtocolError,
    NotAppliedError,
    NotSentError,
    RemoteProtocolError,
    ReplicaStoppedError,
    SessionLostError,
    SnapshotGoneError,
    StorageError,
    TrioPbError,
    UnknownOutcomeError,
)

if TYPE_CHECKING:
    from trio_pb.driver.client import connect
    from trio_pb.driver.order_client import OrderClient, OrderRejectedError

__all__ = [
    "ConfigError",
    "DataDirectoryError",
    "DeadlineError",
    "DiskFullError",
    "LocalProtocolError",
    "NotAppliedError",
    "NotSentError",
    "OrderClient",
    "OrderRejectedError",
    "RemoteProtocolError",
    "ReplicaStoppedError",
    "SessionLostError",
    "SnapshotGoneError",
    "StorageError",
    "TrioPbError",
    "UnknownOutcomeError",
    "__version__",
    "connect",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # The core imports this package by its name: what needs Trio is imported on first use only.
    if name == "connect":
        from trio_pb.driver.client import connect

        return connect
    if name in ("OrderClient", "OrderRejectedError"):
        from trio_pb.driver import order_client

        return getattr(order_client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
