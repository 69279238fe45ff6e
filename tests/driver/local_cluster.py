"""Real servers in one process over loopback: real files, real sockets, real core and orders."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from trio_pb.app.order_messages import PLACE, PlaceOrder, encode_place
from trio_pb.app.orders import Orders
from trio_pb.codec.wire import encode_client
from trio_pb.core.messages import (
    CODE_REGISTER,
    ClientMessage,
    Greet,
    Reply,
    Request,
    ServerMessage,
    Status,
    StatusGet,
    StatusReport,
)
from trio_pb.core.replica import Replica
from trio_pb.driver.file_disk import FileDisk
from trio_pb.driver.incoming import Incoming
from trio_pb.driver.platform import Platform
from trio_pb.driver.recording import RecordingCore
from trio_pb.driver.server import ServerInfo, serve
from trio_pb.driver.tcp import dial_tcp
from trio_pb.storage.disk import run
from trio_pb.storage.store import format_directory

CLUSTER = b"local test 16 by"
SEGMENT_SIZE = 1 << 20


@attrs.define
class Running:
    """One running server."""

    info: ServerInfo
    scope: trio.CancelScope
    ended: trio.Event

    def holds(self, op: int) -> bool:
        """Whether it executed `op`, and has it on its disk: a backup executes before its own flush is done."""
        report = self.info.report()
        return min(report.applied, report.acked) >= op


class LocalCluster:
    """Servers that can be started, stopped and killed; they find one another by name, at any port."""

    def __init__(self, directory: Path, nursery: trio.Nursery, replicas: int) -> None:
        self.directory = directory
        self.replicas = tuple(range(replicas))
        self.running: dict[int, Running] = {}
        self.recordings: list[RecordingCore] = []  # Of every boot.
        self._nursery = nursery
        for replica in self.replicas:
            with FileDisk(self.path_of(replica), create=True) as disk:
                incarnation = bytes([replica + 1]) * 16
                run(
                    disk,
                    format_directory(
                        cluster=CLUSTER,
                        replica=replica,
                        incarnation=incarnation,
                        voters=self.replicas,
                        segment_size=SEGMENT_SIZE,
                    ),
                )

    def path_of(self, replica: int) -> Path:
        """Its data directory."""
        return self.directory / f"replica-{replica}"

    async def start(self, *replicas: int) -> None:
        """Start servers and return when each is ready, and, when all of them run, born."""
        for replica in replicas:
            self.running[replica] = await self._nursery.start(self._serve, replica)
        if len(self.running) == len(self.replicas):
            # Before that nobody can be done without: whoever dies now leaves the others unborn.
            for running in self.running.values():
                await running.info.wait_until(partial(_is_born, running.info))

    async def kill(self, replica: int) -> None:
        """Cancel a server: no farewell."""
        running = self.running.pop(replica)
        running.scope.cancel()
        await running.ended.wait()

    async def stop(self, replica: int) -> None:
        """Stop a server gracefully and return when it is gone."""
        running = self.running.pop(replica)
        running.info.stop()
        await running.ended.wait()

    def primary(self) -> int | None:
        """Who leads, as far as the running servers say."""
        leading = [replica for replica, running in self.running.items() if running.info.report().is_primary]
        return leading[0] if len(leading) == 1 else None

    async def wait_for_primary(self) -> int:
        """Return when somebody leads."""
        found: list[int] = []
        async with trio.open_nursery() as nursery:

            async def wait_for(replica: int, info: ServerInfo) -> None:
                await info.wait_until(lambda: info.report().is_primary)
                found.append(replica)
                nursery.cancel_scope.cancel()

            for replica, running in self.running.items():
                nursery.start_soon(wait_for, replica, running.info)
        return found[0]

    async def wait_until_applied(self, op: int) -> None:
        """Return when all running servers executed `op` and have it on their disks."""
        for running in self.running.values():
            await running.info.wait_until(partial(running.holds, op))

    async def digests(self) -> set[tuple[int, bytes]]:
        """(op, digest) of every running server, as it tells a client."""
        found: set[tuple[int, bytes]] = set()
        for running in self.running.values():
            async with await dial_tcp(running.info.address) as stream:
                status = await _ask(stream, StatusGet())
                assert isinstance(status, StatusReport)
                found.add((status.state_op, status.state_digest))
        return found

    async def _serve(self, replica: int, *, task_status: trio.TaskStatus[Running]) -> None:
        ended = trio.Event()
        try:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    info: ServerInfo = await nursery.start(self._serve_directory, replica)
                    task_status.started(Running(info, scope, ended))
        finally:
            ended.set()

    async def _serve_directory(self, replica: int, *, task_status: trio.TaskStatus[ServerInfo]) -> None:
        await serve(
            self.path_of(replica),
            machine=Orders(),
            listen="127.0.0.1:0",
            peers={peer: f"replica-{peer}:1" for peer in self.replicas if peer != replica},
            segment_size=SEGMENT_SIZE,
            platform=Platform(dial=self._dial),
            observe=self._record,
            task_status=task_status,
        )

    def _record(self, core: Replica) -> RecordingCore:
        self.recordings.append(RecordingCore(core))
        return self.recordings[-1]

    async def _dial(self, address: str) -> trio.abc.Stream:
        running = self.running.get(int(address.removeprefix("replica-").removesuffix(":1")))
        if running is None:
            raise ConnectionRefusedError(f"{address} is not running")
        return await dial_tcp(running.info.address)


def _is_born(info: ServerInfo) -> bool:
    return info.report().status is not Status.UNBORN


@asynccontextmanager
async def local_cluster(directory: Path, replicas: int = 3) -> AsyncGenerator[LocalCluster, None]:
    """A cluster of formatted directories; whatever still runs at the end is killed."""
    async with trio.open_nursery() as nursery:
        yield LocalCluster(directory, nursery, replicas)
        nursery.cancel_scope.cancel()


class Customer:
    """A client with one session that orders until it gets an answer."""

    def __init__(self, cluster: LocalCluster, customer_id: int) -> None:
        self.cluster = cluster
        self.customer_id = customer_id
        self.client = bytes([customer_id]) * 16
        self.session = 0
        self.number = 0

    async def order(self, laptop_type: str) -> Reply:
        """Order one laptop; transmitted until it is answered."""
        if not self.session:
            self.session = (await self._call(Request(self.client, 0, 0, CODE_REGISTER, b""))).session
        self.number += 1
        body = encode_place(PlaceOrder(self.customer_id, self.number, laptop_type))
        return await self._call(Request(self.client, self.session, self.number, PLACE, body))

    async def _call(self, request: Request) -> Reply:
        while True:
            for running in list(self.cluster.running.values()):
                with trio.move_on_after(0.5):
                    try:
                        async with await dial_tcp(running.info.address) as stream:
                            answer = await _ask(stream, request)
                    except (OSError, trio.BrokenResourceError):
                        continue
                    if isinstance(answer, Reply):
                        return answer
            await trio.sleep(0.02)


async def _ask(stream: trio.abc.Stream, message: ClientMessage) -> ServerMessage | None:
    """Greet, ask and return the answer; None when the connection ended instead."""
    await stream.send_all(encode_client(CLUSTER, Greet((1,), CLUSTER)) + encode_client(CLUSTER, message))
    incoming = Incoming(stream)
    answers: list[ServerMessage] = []
    while len(answers) < 2:
        decoded = await incoming.receive()
        if not decoded:
            return None
        answers += [answer for _envelope, answer in decoded]  # type: ignore[misc] # A server sends no others.
    return answers[1]
