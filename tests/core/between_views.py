"""A replica between two views, and what it wishes for."""

from __future__ import annotations

from tests.core.bench import Bench, disk_of
from trio_pb.core.messages import StartViewChange, Status

__all__ = ["in_view_change", "wishes"]


def wishes(bench: Bench) -> list[int]:
    """The views that it wished for."""
    return [message.target for message in bench.sent(StartViewChange)]


def in_view_change(
    replica: int = 1, *, view: int = 1025, auto_disk: bool = True, log_view: int = 1024, **disk: object
) -> Bench:
    """A replica that promised `view` and waits for its log."""
    # The keyword arguments are those of disk_of.
    bench = Bench(disk_of(replica, view=view, log_view=log_view, **disk))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    bench.auto_disk = auto_disk
    assert bench.is_in(Status.VIEW_CHANGE)
    return bench
