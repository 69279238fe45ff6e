"""A whole server: how it starts, what it refuses, and how it ends."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.driver.local_cluster import CLUSTER, SEGMENT_SIZE, Customer, local_cluster
from trio_pb.app.orders import Orders
from trio_pb.codec.wire import encode_client
from trio_pb.core.messages import CODE_REGISTER, Greet, Request
from trio_pb.driver.addresses import format_address, parse_address
from trio_pb.driver.file_disk import FileDisk
from trio_pb.driver.platform import Platform
from trio_pb.driver.server import ServerInfo, serve
from trio_pb.driver.tcp import dial_tcp
from trio_pb.errors import ConfigError, DataDirectoryError, ReplicaStoppedError, StorageError
from trio_pb.storage.disk import Flush, Step, run
from trio_pb.storage.store import format_directory


def format_single(path: Path, replica: int = 4) -> None:
    """A cluster of one."""
    with FileDisk(path, create=True) as disk:
        job = format_directory(
            cluster=CLUSTER, replica=replica, incarnation=b"i" * 16, voters=(replica,), segment_size=SEGMENT_SIZE
        )
        run(disk, job)


class FailingDisk(FileDisk):
    """A disk whose flushes fail from some moment on."""

    broken = False

    def do(self, step: Step) -> object:
        """Fail, or do it."""
        if self.broken and isinstance(step, Flush):
            raise StorageError(f"{step.file}: flush failed: EIO")
        return super().do(step)


async def test_ready_means_listening_at_the_address_it_tells(tmp_path: Path) -> None:
    """Port 0 becomes a real one, which is also what it advertises."""
    format_single(tmp_path)
    async with trio.open_nursery() as nursery:
        info: ServerInfo = await nursery.start(serve_single, tmp_path)
        assert (info.replica, info.cluster) == (4, CLUSTER)
        assert info.address == f"127.0.0.1:{info.port}"
        await (await dial_tcp(info.address)).aclose()
        info.stop()


async def serve_single(
    path: Path, *, handle_signals: bool = False, task_status: trio.TaskStatus[ServerInfo] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve a cluster of one."""
    await serve(
        path,
        machine=Orders(),
        listen="127.0.0.1:0",
        peers={},
        segment_size=SEGMENT_SIZE,
        handle_signals=handle_signals,
        task_status=task_status,
    )


async def test_an_address_in_use_is_named_and_the_directory_stays_free(tmp_path: Path) -> None:
    """Binding comes first, so nothing else was touched."""
    format_single(tmp_path)
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
    async with listener:
        with pytest.raises(ConfigError, match=f"listen '{address}': cannot bind: .*in use"):
            await serve(tmp_path, machine=Orders(), listen=address, peers={})
    FileDisk(tmp_path).close()


@pytest.mark.parametrize(
    "address",
    ["7400", "localhost", "localhost:", "localhost:99999", "::1:7400", "host:-1", "h:٣", "h:" + "0" * 5000 + "1"],
)
async def test_an_address_that_makes_no_sense_is_named(tmp_path: Path, address: str) -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigError, match=r"address '.*': write"):
        await serve(tmp_path, machine=Orders(), listen="127.0.0.1:0", peers={1: address})


@pytest.mark.parametrize("host", ["db0..example", "h" * 64, "two words", "a\x00b", "\u2028", "\ud800"])
async def test_a_host_that_no_resolver_takes_is_refused(host: str) -> None:
    """Replicas tell clients addresses: one that raises what nobody expects of a network would end the client."""
    with pytest.raises(ConfigError, match="is no name of a host"):
        await dial_tcp(f"{host}:7400")


@pytest.mark.parametrize(
    ("text", "parts"), [("localhost:7400", ("localhost", 7400)), ("[::1]:0", ("::1", 0)), (":80", ("", 80))]
)
def test_addresses_read_and_write_alike(text: str, parts: tuple[str, int]) -> None:
    """IPv6 hosts in brackets."""
    assert parse_address(text) == parts
    assert format_address(*parts) == text


async def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    """Two processes never share one."""
    format_single(tmp_path)
    with FileDisk(tmp_path), pytest.raises(DataDirectoryError, match="in use"):
        await serve_single(tmp_path)


async def test_an_empty_directory_is_refused_and_let_go(tmp_path: Path) -> None:
    """It is not taken for a new replica."""
    with pytest.raises(DataDirectoryError):
        await serve_single(tmp_path)
    FileDisk(tmp_path).close()


async def test_a_failed_flush_ends_the_server_with_the_cause(tmp_path: Path) -> None:
    """Not in an exception group, never retried, and the directory is free for a restart (R-IOERR)."""
    format_single(tmp_path)
    disks: list[FailingDisk] = []

    async def open_disk(path: Path | str) -> FailingDisk:
        await trio.lowlevel.checkpoint()
        disks.append(FailingDisk(path))
        return disks[0]

    async def serve_and_fail(*, task_status: trio.TaskStatus[ServerInfo]) -> None:
        with pytest.raises(ReplicaStoppedError, match=r"storage: .*: flush failed: EIO"):
            await serve(
                tmp_path,
                machine=Orders(),
                listen="127.0.0.1:0",
                peers={},
                segment_size=SEGMENT_SIZE,
                platform=Platform(open_disk=open_disk),
                task_status=task_status,
            )

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            info: ServerInfo = await nursery.start(serve_and_fail)
            await info.wait_until(lambda: info.report().is_primary)
            disks[0].broken = True
            async with await dial_tcp(info.address) as stream:
                register = Request(b"c" * 16, 0, 0, CODE_REGISTER, b"")
                await stream.send_all(encode_client(CLUSTER, Greet((1,), CLUSTER)) + encode_client(CLUSTER, register))
                while await stream.receive_some():
                    pass  # The greeting; then the end, since there will be no reply.
    FileDisk(tmp_path).close()


async def test_garbage_on_the_port_disturbs_nobody(tmp_path: Path) -> None:
    """Orders go on beside it; each offender is counted."""
    with trio.fail_after(20):
        async with local_cluster(tmp_path, replicas=1) as cluster:
            await cluster.start(0)
            info = cluster.running[0].info
            customer = Customer(cluster, 1)
            await customer.order("one")
            for garbage in (b"\0" * 4096, b"GET / HTTP/1.0\r\n\r\n" * 9, b"TPB1" + b"\xff" * 4096):
                async with await dial_tcp(info.address) as stream:
                    await stream.send_all(garbage)
                    with suppress(trio.BrokenResourceError):  # A reset, since it left bytes of ours unread.
                        assert await stream.receive_some() == b""
                await customer.order("another")
            assert info.counters()["protocol_errors"] == 3


async def test_a_graceful_stop_answers_what_was_ordered(tmp_path: Path) -> None:
    """The request that was in flight when the stop came gets its receipt."""
    with trio.fail_after(20):
        async with local_cluster(tmp_path, replicas=1) as cluster:
            await cluster.start(0)
            customer = Customer(cluster, 1)
            await customer.order("one")
            info = cluster.running[0].info
            start = trio.current_time()
            await cluster.stop(0)
            assert trio.current_time() - start < 5
            with pytest.raises(OSError, match="connect"):
                await dial_tcp(info.address)
            await cluster.start(0)
            assert (await customer.order("two")).number == 2


async def test_the_first_signal_stops_gracefully(tmp_path: Path) -> None:
    """`serve` returns by itself."""
    format_single(tmp_path)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_single, tmp_path, handle_signals=True))
            os.kill(os.getpid(), signal.SIGTERM)
    FileDisk(tmp_path).close()
