"""A cluster of replica processes on this machine, in a directory that disappears with it.

async with local_cluster(3) as cluster:
    primary = await cluster.wait_primary()
    await cluster.kill(primary)
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from trio_pb.core.messages import Status, StatusReport
from trio_pb.errors import TrioPbError
from trio_pb.testbed.formatting import cluster_id, format_replica
from trio_pb.testbed.ports import free_ports
from trio_pb.testbed.process import ReplicaProcess, ReplicaProcessError, replica_command
from trio_pb.testbed.status import ask_status

__all__ = ["LocalCluster", "NotReachedError", "local_cluster"]

POLL_SECONDS = 0.02
STATUS_SECONDS_MAX = 1.0
WAIT_SECONDS = 20.0
CLEAN_UP_SECONDS_MAX = 10.0
SEGMENT_MIB = 4  # Short runs: a segment of the usual size would mean writing zeros, most of all.


class NotReachedError(TrioPbError):
    """The cluster did not get to a state in time; the message says where each replica stood."""

    code = "not_reached"


class LocalCluster:
    """Replicas 0..n-1; all methods refer to them by number.

    `flags` are more words for `trio-pb start`, the same for all or each replica's own. `module` is what
    understands them: the program itself, or one that runs the same server on a disk with faults.
    """

    def __init__(
        self,
        directory: Path,
        replicas: int,
        name: str,
        *,
        flags: Sequence[str] | Callable[[int], Sequence[str]] = (),
        module: str = "trio_pb",
        addresses: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.name = name
        self.addresses = list(addresses) or [f"127.0.0.1:{port}" for port in free_ports(replicas)]
        self._processes = [
            ReplicaProcess(
                f"replica {replica}",
                replica_command(
                    "start",
                    str(self.data(replica)),
                    "--listen",
                    self.addresses[replica],
                    "--segment-mib",
                    str(SEGMENT_MIB),
                    "--stop-with-parent",
                    *(flags(replica) if callable(flags) else flags),
                    "--peers",
                    *(f"{peer}={address}" for peer, address in enumerate(self.addresses)),
                    module=module,
                ),
                directory / f"replica-{replica}.log",
            )
            for replica in range(replicas)
        ]

    @property
    def replicas(self) -> range:
        """All replica numbers."""
        return range(len(self.addresses))

    @property
    def running(self) -> list[int]:
        """The replicas whose process runs."""
        return [replica for replica in self.replicas if self._processes[replica].running]

    def data(self, replica: int) -> Path:
        """The data directory of `replica`."""
        return self.directory / f"replica-{replica}"

    def process(self, replica: int) -> ReplicaProcess:
        """The process of `replica`."""
        return self._processes[replica]

    # --- Life and death -----------------------------------------------------------------------

    async def format(self) -> None:
        """Make all data directories."""
        async with trio.open_nursery() as nursery:
            for replica in self.replicas:
                nursery.start_soon(trio.to_thread.run_sync, self._format, replica)

    def _format(self, replica: int) -> None:
        format_replica(
            self.data(replica),
            cluster=cluster_id(self.name),
            replica=replica,
            members=self.replicas,
            segment_size=SEGMENT_MIB << 20,
        )

    async def start(self, *replicas: int) -> None:
        """Start these replicas, all when none is named, and wait until each answers."""
        chosen = replicas or tuple(self.replicas)
        for replica in chosen:
            await self._processes[replica].start()
        for replica in chosen:
            await self.wait_answering(replica)

    async def kill(self, replica: int) -> None:
        """SIGKILL: no good-bye, nothing flushed that was not."""
        await self._processes[replica].kill()

    async def stop(self, replica: int) -> int:
        """SIGTERM; returns the exit code."""
        return await self._processes[replica].stop()

    async def restart(self, replica: int) -> None:
        """Start a replica that is down and wait until it answers."""
        await self.start(replica)

    # --- Looking ------------------------------------------------------------------------------

    async def status(self, replica: int) -> StatusReport | None:
        """Where `replica` stands; None when it does not answer."""
        return await ask_status(self.addresses[replica], STATUS_SECONDS_MAX)

    async def statuses(self, replicas: Iterable[int] | None = None) -> dict[int, StatusReport]:
        """Where those replicas stand that answer, by number."""
        found: dict[int, StatusReport] = {}

        async def ask(replica: int) -> None:
            status = await self.status(replica)
            if status is not None:
                found[replica] = status

        async with trio.open_nursery() as nursery:
            for replica in self.replicas if replicas is None else replicas:
                nursery.start_soon(ask, replica)
        return dict(sorted(found.items()))

    async def wait_answering(self, replica: int) -> StatusReport:
        """Wait until `replica` answers.

        Raises:
            ReplicaProcessError: its process ended or hangs.
        """
        process = self._processes[replica]
        with trio.move_on_after(WAIT_SECONDS):
            while True:
                process.check()
                status = await self.status(replica)
                if status is not None:
                    return status
                await trio.sleep(POLL_SECONDS)
        raise ReplicaProcessError(f"{process.name} does not answer after {WAIT_SECONDS:.0f} s\n{process.tail()}")

    async def wait_born(self) -> None:
        """Wait until all know one another: before that a cluster cannot do without any of its members.

        Raises:
            NotReachedError: some are not, after `WAIT_SECONDS`.
        """
        statuses: dict[int, StatusReport] = {}
        with trio.move_on_after(WAIT_SECONDS):
            while True:
                statuses = await self.statuses()
                seen = [status.status for status in statuses.values()]
                if len(seen) == len(self.replicas) and Status.UNBORN not in seen:
                    return
                await trio.sleep(POLL_SECONDS)
        raise NotReachedError(f"not all replicas are born after {WAIT_SECONDS:.0f} s\n{self.describe(statuses)}")

    async def wait_primary(self, *, besides: int | None = None) -> int:
        """Wait until a replica other than `besides` leads, and return its number.

        Raises:
            NotReachedError: none did in time.
        """
        statuses: dict[int, StatusReport] = {}
        with trio.move_on_after(WAIT_SECONDS):
            while True:
                statuses = await self.statuses(self.running)
                # A primary that was cut off may not know yet that it lost: the highest view counts.
                leading = [status for status in statuses.values() if status.is_primary and status.replica != besides]
                if leading:
                    return max(leading, key=lambda status: status.view).replica
                await trio.sleep(POLL_SECONDS)
        raise NotReachedError(f"no primary after {WAIT_SECONDS:.0f} s\n{self.describe(statuses)}")

    async def wait_normal(self, replica: int) -> StatusReport:
        """Wait until `replica` takes part and has applied what was committed when we asked first.

        Raises:
            NotReachedError: it did not get there in time.
        """
        statuses = await self.statuses()
        committed = max((status.commit for status in statuses.values()), default=0)
        with trio.move_on_after(WAIT_SECONDS):
            while True:
                status = await self.status(replica)
                if status is not None and status.status is Status.NORMAL and status.applied >= committed:
                    return status
                await trio.sleep(POLL_SECONDS)
        raise NotReachedError(
            f"replica {replica} has not caught up after {WAIT_SECONDS:.0f} s\n{self.describe(statuses)}"
        )

    async def wait_agreed(self) -> dict[int, StatusReport]:
        """Wait until all replicas run, are normal, in one view, and have applied the same ops; return where they stand.

        Raises:
            NotReachedError: they did not get there in time.
        """
        statuses: dict[int, StatusReport] = {}
        with trio.move_on_after(WAIT_SECONDS):
            while True:
                statuses = await self.statuses()
                seen = list(statuses.values())
                if (
                    len(seen) == len(self.addresses)
                    and all(status.status is Status.NORMAL for status in seen)
                    and len({(status.view, status.state_op) for status in seen}) == 1
                    and all(status.state_op == status.head for status in seen)
                ):
                    return statuses
                await trio.sleep(POLL_SECONDS)
        raise NotReachedError(f"the replicas do not agree after {WAIT_SECONDS:.0f} s\n{self.describe(statuses)}")

    def describe(self, statuses: dict[int, StatusReport]) -> str:
        """One line per replica, for error messages."""
        lines: list[str] = []
        for replica in self.replicas:
            status = statuses.get(replica)
            if status is None:
                lines.append(f"replica {replica}: {'no answer' if self._processes[replica].running else 'down'}")
            else:
                alive = ", ".join(str(peer) for peer, is_alive, _ in status.peers if is_alive)
                lines.append(
                    f"replica {replica}: {status.status.name.lower()}, view {status.view}, head {status.head}, "
                    f"commit {status.commit}, applied {status.applied}, sees {alive or 'nobody'}"
                )
            tail = self._processes[replica].tail()
            if tail:
                lines.append(tail)
        return "\n".join(lines)

    async def clean_up(self) -> None:
        """Kill what still runs."""
        for process in self._processes:
            if process.running:
                await process.kill()


@asynccontextmanager
async def local_cluster(
    replicas: int = 3,
    *,
    name: str = "testbed",
    flags: Sequence[str] = (),
    module: str = "trio_pb",
    parent: Path | None = None,
) -> AsyncGenerator[LocalCluster, None]:
    """A new cluster of `replicas` processes, all of them up, answering and born.

    Its directory is made in `parent`, by default where the system has temporary files. However the block ends, no
    process and no file of the cluster is left.
    """
    directory = Path(tempfile.mkdtemp(prefix="trio-pb-", dir=parent))
    try:
        cluster = LocalCluster(directory, replicas, name, flags=flags, module=module)
        try:
            await cluster.format()
            await cluster.start()
            await cluster.wait_born()
            yield cluster
        finally:
            # Also when we are being cancelled: processes are to die first, then their files go.
            with trio.move_on_after(CLEAN_UP_SECONDS_MAX, shield=True):
                await cluster.clean_up()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
