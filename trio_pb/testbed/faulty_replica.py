"""`python -m trio_pb.testbed.faulty_replica start DIR ... --disk NAME`: the same server on a disk with faults.

For tests. It takes those words of `trio-pb start` that the testbed says, and `--disk` beside them.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import trio

from trio_pb.app.orders import Orders
from trio_pb.driver.collector import spare_the_loop
from trio_pb.driver.file_disk import FileDisk
from trio_pb.driver.platform import Platform
from trio_pb.driver.server import ServerInfo, limits_of, serve
from trio_pb.driver.signals import end_of_input
from trio_pb.testbed.faulty_disks import disk_by_name

__all__ = ["main"]


def main() -> None:
    """Run one replica until it is asked to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["start"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--segment-mib", type=int, required=True)
    parser.add_argument("--checkpoint-interval", type=int)
    parser.add_argument("--stop-with-parent", action="store_true", required=True)
    parser.add_argument("--disk", required=True)
    parser.add_argument("--peers", nargs="+", required=True)
    words = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    trio.run(_run, words)


async def _run(words: argparse.Namespace) -> None:
    faulty = disk_by_name(words.disk)

    async def open_disk(directory: Path | str) -> FileDisk:
        return await trio.to_thread.run_sync(faulty, directory)

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
                platform=Platform(open_disk=open_disk),
                task_status=task_status,
            )
            nursery.cancel_scope.cancel()

        info = await nursery.start(serve_to_the_end)
        spare_the_loop()
        await end_of_input()
        info.stop()


if __name__ == "__main__":
    main()
