"""A whole replica: data directory, protocol core, state machine and connections, under one call.

`serve` returns when the replica was asked to stop and did; it raises when it could not go on.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from random import Random

import attrs
import trio

from trio_pb.core.config import Limits, Options, Timeouts, refuse_optimised_python
from trio_pb.core.ports import Input, Report, Start, Transfer
from trio_pb.core.replica import Replica
from trio_pb.driver.addresses import WILDCARD_HOSTS, format_address, parse_address
from trio_pb.driver.clock import Clock
from trio_pb.driver.disk_work import DiskWork
from trio_pb.driver.durability import Durability
from trio_pb.driver.events import EventLog
from trio_pb.driver.host import Core, Machine, ReplicaHost
from trio_pb.driver.inbox import Inbox
from trio_pb.driver.opening import CopiesDamaged, look_at_copies
from trio_pb.driver.platform import Platform
from trio_pb.driver.reception import Reception
from trio_pb.driver.signals import stop_on_signals
from trio_pb.driver.tcp import Listening, close_listeners
from trio_pb.driver.transport import Transport
from trio_pb.errors import ConfigError, ReplicaStoppedError
from trio_pb.storage.checkpointer import Checkpointer
from trio_pb.storage.disk import Disk
from trio_pb.storage.store import Store
from trio_pb.storage.work import Completion

__all__ = ["ServerInfo", "limits_of", "serve"]

logger = logging.getLogger(__name__)

STOP_SECONDS_MAX = 5.0  # Of a graceful stop, all steps together.
TRANSFER_SECONDS_MAX = 2.0  # The core gives up after 100 ticks (PROTOCOL 11).
DISK_SECONDS_MAX = 5.0  # For the running disk job to end, once all else is closed.
FINISH_SECONDS_MAX = 1.0  # For ordered requests to be executed.
CHECKPOINT_INTERVAL_MIN = 32  # A pipeline: with less it would wait for the disk.
CHECKPOINT_INTERVAL_MAX = 65536
WAL_INTERVALS = 4  # The log keeps so many of them, as by default.
PLATFORM = Platform()


@attrs.frozen(kw_only=True)
class ServerInfo:
    """A replica that is ready: listening, storage open, first step done."""

    replica: int
    cluster: bytes
    host: str
    port: int  # The real one when port 0 was asked for.
    address: str  # What we advertise, "host:port".
    stop: Callable[[], None]  # Ask for a graceful stop; `serve` returns when it is done.
    report: Callable[[], Report]
    wait_until: Callable[[Callable[[], bool]], Awaitable[None]]  # Looks at a condition after every turn.
    counters: Callable[[], dict[str, int]]  # Of the driver: drops, refusals, errors of outsiders.


async def serve(
    directory: Path | str,
    *,
    machine: Machine,
    listen: str = "127.0.0.1:7400",
    advertise: str | None = None,
    peers: Mapping[int, str],
    limits: Limits | None = None,
    timeouts: Timeouts | None = None,
    seed: int = 0,
    segment_size: int | None = None,
    handle_signals: bool = False,
    platform: Platform = PLATFORM,
    observe: Callable[[Replica], Core] | None = None,
    task_status: trio.TaskStatus[ServerInfo] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the replica whose data `directory` has, until it is stopped.

    `peers` maps replica ids to "host:port"; an entry of this replica itself is taken as what it
    advertises. `machine` must be new: its state comes from the newest checkpoint and the log above it. With
    `handle_signals`, SIGTERM and SIGINT stop gracefully, a second one at once. `observe` is given the core and
    returns what stands in front of it (`driver.recording`).

    Raises:
        ConfigError: an address or option makes no sense, or cannot be bound; it is named.
        DataDirectoryError: the directory is missing, foreign or in use.
        StorageError: the storage cannot be opened.
        ReplicaStoppedError: the replica must not go on; `reason` says why.
    """
    refuse_optimised_python()
    for address in [*peers.values(), *([advertise] if advertise else [])]:
        parse_address(address)
    options = Options(limits=limits or Limits(), timeouts=timeouts or Timeouts(), seed=seed)
    listening = await platform.listen(listen)
    try:
        disk = await platform.open_disk(directory)
    except BaseException:
        await close_listeners(listening.listeners)
        raise
    closed_in_time = True
    try:
        store = Store() if segment_size is None else Store(segment_size=segment_size)
        copies = await platform.run_job(disk, look_at_copies())
        start = await platform.run_job(disk, store.open(machine))
        server = _Server(
            copies=copies,
            store=store,
            disk=disk,
            start=start,
            machine=machine,
            listening=listening,
            advertise=advertise,
            peers=peers,
            options=options,
            platform=platform,
            observe=observe,
        )
        closed_in_time = False
        try:
            await server.run(handle_signals, task_status)
        finally:
            closed_in_time = await server.close_disk()
    finally:
        if closed_in_time:  # Else its thread still uses it.
            disk.close()
        await close_listeners(listening.listeners)


def limits_of(checkpoint_interval: int | None) -> Limits:
    """The limits of a replica that makes a checkpoint every so many ops; None: the usual ones.

    Raises:
        ConfigError: the interval makes no sense.
    """
    if checkpoint_interval is None:
        return Limits()
    if not CHECKPOINT_INTERVAL_MIN <= checkpoint_interval <= CHECKPOINT_INTERVAL_MAX:
        raise ConfigError(
            f"checkpoint interval {checkpoint_interval}: must be {CHECKPOINT_INTERVAL_MIN} to {CHECKPOINT_INTERVAL_MAX}"
        )
    return Limits(checkpoint_interval_ops=checkpoint_interval, wal_ops=WAL_INTERVALS * checkpoint_interval)


class _Server:
    """The parts of one replica, wired."""

    def __init__(
        self,
        *,
        copies: CopiesDamaged,
        store: Store,
        disk: Disk,
        start: Start,
        machine: Machine,
        listening: Listening,
        advertise: str | None,
        peers: Mapping[int, str],
        options: Options,
        platform: Platform,
        observe: Callable[[Replica], Core] | None,
    ) -> None:
        image = start.superblock
        self._listeners = list(listening.listeners)
        self._host, self._port = listening.host, listening.port
        self._address = advertise or peers.get(image.replica) or self._default_address()
        addresses = {**peers, image.replica: self._address}
        self._core = Replica(attrs.evolve(options, addresses=tuple(sorted(addresses.items()))))
        self._inbox = Inbox()
        self._events = EventLog(start, copies, counters=lambda: self._core.report().counters)
        self._checkpointer = Checkpointer(machine)
        self._disk = DiskWork(
            store, disk, self._inbox, platform.make_runner(), sift=self._sift, clock=platform.storage_clock
        )
        durability = Durability(start)
        self._transport = Transport(
            cluster=image.cluster,
            replica=image.replica,
            peers={replica: address for replica, address in peers.items() if replica != image.replica},
            inbox=self._inbox,
            reception=Reception(
                report=self._core.report,
                durable_view=lambda: durability.superblock.view,
                machine=machine,
                limits=options.limits,
                addresses=addresses,
                counters=self._counters,
            ),
            dial=platform.dial,
            jitter=Random(repr((options.seed, image.replica, image.incarnation, image.boot))),
        )
        self._replica_host = ReplicaHost(
            core=self._core if observe is None else observe(self._core),
            start=start,
            machine=machine,
            clock=Clock(platform.wall_ns),
            inbox=self._inbox,
            disk=self._disk,
            checkpointer=self._checkpointer,
            events=self._events,
            transport=self._transport,
            durability=durability,
        )
        self._stop = trio.Event()
        self._accepting = trio.CancelScope()
        self._info = ServerInfo(
            replica=image.replica,
            cluster=image.cluster,
            host=self._host,
            port=self._port,
            address=self._address,
            stop=self._stop.set,
            report=self._core.report,
            wait_until=self._replica_host.wait_until,
            counters=self._counters,
        )

    async def run(self, handle_signals: bool, task_status: trio.TaskStatus[ServerInfo]) -> None:
        """Serve until stopped or failed."""
        failure: ReplicaStoppedError | None = None
        async with trio.open_nursery() as nursery:
            try:
                if handle_signals:
                    await nursery.start(stop_on_signals, self._stop.set, nursery.cancel_scope.cancel)
                self._disk.start()
                self._replica_host.take_first_turn()
                nursery.start_soon(self._transport.run_links)
                nursery.start_soon(self._accept, nursery)
                nursery.start_soon(self._stop_gracefully, nursery.cancel_scope)
                logger.info("replica %d listens on %s", self._info.replica, format_address(self._host, self._port))
                task_status.started(self._info)
                await self._replica_host.run()
            except ReplicaStoppedError as error:
                failure = error
                nursery.cancel_scope.cancel()
        if failure is not None:
            logger.error("replica %d stopped: %s", self._info.replica, failure)
            raise failure  # Out here, so that no exception group wraps it.

    async def close_disk(self) -> bool:
        """Let the running storage job end; return whether it did."""
        return await self._disk.close(DISK_SECONDS_MAX)

    def _sift(self, done: Sequence[Completion]) -> list[Input]:
        inputs = self._checkpointer.sift(done)
        self._events.on_completions(inputs)
        return inputs

    async def _accept(self, handlers: trio.Nursery) -> None:
        with self._accepting:
            await trio.serve_listeners(self._transport.serve, self._listeners, handler_nursery=handlers)

    async def _stop_gracefully(self, everything: trio.CancelScope) -> None:
        """When asked: hand over, finish what is ordered, let replies leave, end everything."""
        await self._stop.wait()
        logger.info("replica %d stops", self._info.replica)
        with trio.move_on_after(STOP_SECONDS_MAX):
            self._accepting.cancel()
            # Until the hand-over the core itself refuses requests, and tells clients where to go.
            self._inbox.put([Transfer()])
            with trio.move_on_after(TRANSFER_SECONDS_MAX):
                await self._replica_host.wait_transfer_done()
            self._transport.ignore_clients()
            ordered = self._core.report().head
            with trio.move_on_after(FINISH_SECONDS_MAX):
                await self._replica_host.wait_until(lambda: self._core.report().applied >= ordered)
            await self._transport.drain_clients()
        everything.cancel()

    def _default_address(self) -> str:
        host = socket.gethostname() if self._host in WILDCARD_HOSTS else self._host
        return format_address(host, self._port)

    def _counters(self) -> dict[str, int]:
        return {
            **self._transport.counters,
            **self._events.counters,
            "peer_frames_dropped": self._transport.peer_frames_dropped,
            "peer_messages_dropped": self._inbox.peer_messages_dropped,
            "storage_jobs_in_loop": self._disk.jobs_here,
            "turns": self._replica_host.turns,
        }
