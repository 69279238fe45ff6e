"""`python -m trio_pb.testbed.faulty_replica start DIR ... --disk NAME`: the same server on a disk with faults.

For tests. It takes those words of `trio-pb start` that the testbed says, and `--disk` beside them.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from trio_pb.app.orders import Orders
from trio_pb.driver.collector import spare_the_loop
from trio_pb.driver.file_disk import FileDisk
from trio_pb.driver.platform import Platform
from trio_pb.driver.server import ServerInfo, limits_of, serve
from trio_pb.driver.signals import end_of_input
from trio_pb.testbed.faulty_disks import disk_by_name

__all__ = ["log_to_stderr", "main", "replica_parser", "serve_words"]


def main() -> None:
    """Run one replica until it is asked to stop."""
    parser = replica_parser()
    parser.add_argument("--disk", required=True)
    words = parser.parse_args()
    faulty = disk_by_name(words.disk)

    async def open_disk(directory: Path | str) -> FileDisk:
        return await trio.to_thread.run_sync(faulty, directory)

    log_to_stderr()
    trio.run(serve_words, words, Platform(open_disk=open_disk), end_of_input)


def replica_parser() -> argparse.ArgumentParser:
    """What reads the words that a `LocalCluster` starts a replica with."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["start"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--segment-mib", type=int, required=True)
    parser.add_argument("--checkpoint-interval", type=int)
    parser.add_argument("--stop-with-parent", action="store_true", required=True)
    parser.add_argument("--peers", nargs="+", required=True)
    return parser


def log_to_stderr() -> None:
    """As `trio-pb start` does."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")


async def serve_words(
    words: argparse.Namespace, platform: Platform, input_ended: Callable[[], Awaitable[None]]
) -> None:
    """Serve as the words say, until a signal or until `input_ended` returns.

    Raises:
        DataDirectoryError, StorageError, ReplicaStoppedError: as `serve`.
    """
    entries = [entry.partition("=") for entry in words.peers]
    async with trio.open_nursery() as nursery:

        async def serve_to_the_end(task_status: trio.TaskStatus[ServerInfo]) -> None:
            await serve(
                words.directory,
                machine=Orders(),
                listen=words.listen,
                peers={int(number): address for number, _, address in entries},
                limits=limits_of(words.checkpoint_interval),
                segment_size=words.segment_mib << 20,
                handle_signals=True,
                platform=platform,
                task_status=task_status,
            )
            nursery.cancel_scope.cancel()

        infos: list[ServerInfo] = []

        async def stop_in_the_end() -> None:
            await input_ended()
            if infos:
                infos[0].stop()
            else:
                nursery.cancel_scope.cancel()

        nursery.start_soon(stop_in_the_end)
        infos.append(await nursery.start(serve_to_the_end))
        spare_the_loop()


if __name__ == "__main__":
    main()
