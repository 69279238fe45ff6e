"""What this machine takes for the least that an order needs, with plain sockets and no protocol at all.

A durable order cannot cost less than a round trip to the primary, one to a backup, and a flush on both. Measured in
the same run, it makes figures of different machines, and of different days, comparable.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Protocol

import attrs

from trio_pb.testbed.bench.figures import FlushTimes, percentile
from trio_pb.testbed.bench.storage import measure_flushes

__all__ = ["Calibration", "calibrate"]

MESSAGE_SIZE = 128
ROUND_TRIPS = 2000
SECONDS_MAX = 5.0  # On a slow disk fewer of them must do.
START_SECONDS_MAX = 20.0
END_SECONDS_MAX = 5.0


@attrs.frozen(kw_only=True)
class Calibration:
    """Of one machine at one time."""

    flush: FlushTimes
    ping_p50_ms: float  # A message and its echo between two processes.
    limit_p50_ms: float  # Client to primary to backup and back, flushed on both.
    limit_per_s: float  # One after the other.


def calibrate(directory: Path) -> Calibration:
    """Measure, with files in `directory`."""
    flush = measure_flushes(directory / "flushes")
    with _server(_echo) as port:
        ping = _round_trips(port)
    with (
        _server(_backup, directory / "backup") as backup,
        _server(_primary, directory / "primary", backup) as primary,
    ):
        limit = _round_trips(primary)
    return Calibration(
        flush=flush,
        ping_p50_ms=1e3 * percentile(ping, 0.5),
        limit_p50_ms=1e3 * percentile(limit, 0.5),
        limit_per_s=len(limit) / sum(limit),
    )


def _round_trips(port: int) -> list[float]:
    """Seconds of each, rising."""
    times: list[float] = []
    message = bytes(MESSAGE_SIZE)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = perf_counter() + SECONDS_MAX
        while len(times) < ROUND_TRIPS and (began := perf_counter()) < end:
            connection.sendall(message)
            if not _receive(connection):
                break
            times.append(perf_counter() - began)
    return sorted(times)


# --- Processes ------------------------------------------------------------------------------------


class _Sender(Protocol):
    def send(self, obj: object, /) -> None: ...


@contextmanager
def _server(serve: Callable[..., None], *arguments: object) -> Generator[int]:
    """A process that serves one connection; its port."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_listen, args=(theirs, serve, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(START_SECONDS_MAX):
            raise TimeoutError("a process of the calibration did not start")
        yield ours.recv()
    finally:
        process.join(END_SECONDS_MAX)  # It ends with its connection.
        process.kill()
        process.join()
        ours.close()


def _listen(pipe: _Sender, serve: Callable[..., None], arguments: tuple[object, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(START_SECONDS_MAX)
        pipe.send(listener.getsockname()[1])
        connection, _ = listener.accept()
    with connection:
        connection.settimeout(START_SECONDS_MAX)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        serve(connection, *arguments)


def _echo(client: socket.socket) -> None:
    while message := _receive(client):
        client.sendall(message)


def _backup(primary: socket.socket, file: Path) -> None:
    with _journal(file) as append:
        while message := _receive(primary):
            append(message)
            primary.sendall(message)


def _primary(client: socket.socket, file: Path, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as backup, _journal(file) as append:
        backup.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while message := _receive(client):
            backup.sendall(message)
            append(message)
            if not _receive(backup):
                return
            client.sendall(message)


@contextmanager
def _journal(file: Path) -> Generator[Callable[[bytes], None]]:
    """A zero-filled file; what is appended is flushed before the call returns."""
    sync = os.fdatasync if sys.platform != "darwin" else os.fsync
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, bytes(ROUND_TRIPS * MESSAGE_SIZE), 0)
        os.fsync(descriptor)
        offset = 0

        def append(message: bytes) -> None:
            nonlocal offset
            os.pwrite(descriptor, message, offset)
            sync(descriptor)
            offset += MESSAGE_SIZE

        yield append
    finally:
        os.close(descriptor)
        file.unlink()


def _receive(connection: socket.socket) -> bytes:
    """One message; b"" at the end."""
    message = connection.recv(MESSAGE_SIZE)
    while message and len(message) < MESSAGE_SIZE:
        more = connection.recv(MESSAGE_SIZE - len(message))
        if not more:
            return b""
        message += more
    return message
