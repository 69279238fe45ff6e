"""`python -m trio_pb.testbed.torture.replica start DIR ... --route ID=HOST:PORT ...`: a replica to be tortured.

The same server, on a disk and a clock that go wrong as `Troubles` on standard input say, and with its
connections to its peers led through the proxies that are named.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import attrs
import trio

from trio_pb.driver.platform import Platform
from trio_pb.driver.tcp import dial_tcp
from trio_pb.errors import TrioPbError
from trio_pb.testbed.faulty_replica import log_to_stderr, replica_parser, serve_words
from trio_pb.testbed.torture.clock import WrongClock
from trio_pb.testbed.torture.disk import FailingDisk
from trio_pb.testbed.torture.troubles import Troubles

__all__ = ["main"]

LINE_SIZE_MAX = 4096


@attrs.define
class _Machine:
    """What the replica runs on."""

    clock: WrongClock
    troubles: Troubles = attrs.Factory(Troubles)  # The disk's thread reads it as well: it is replaced as a whole.

    _rest: bytes = b""  # Of standard input: the beginning of a line.

    def hear(self) -> bool:
        """Do as the next bytes of standard input say; return whether it goes on."""
        data = os.read(sys.stdin.fileno(), LINE_SIZE_MAX)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.troubles = troubles = Troubles.from_line(line)
            self.clock.go_wrong(ahead_seconds=troubles.clock_ahead_seconds, rate=troubles.clock_rate)
        return bool(data)

    async def hear_all(self) -> None:
        """Do as standard input says until its end."""
        is_open = True
        while is_open:
            await trio.lowlevel.wait_readable(sys.stdin.fileno())
            is_open = self.hear()


def main() -> None:
    """Run one replica until it is asked to stop; exit code 1 if it had to stop."""
    parser = replica_parser()
    parser.add_argument("--route", nargs="+", required=True)
    words = parser.parse_args()
    routes = {int(number): address for number, _, address in (entry.partition("=") for entry in words.route)}
    peers = {address: int(number) for number, _, address in (entry.partition("=") for entry in words.peers)}
    machine = _Machine(WrongClock())
    machine.hear()  # What is wrong from the beginning: the first line, which comes with our start.

    async def open_disk(directory: Path | str) -> FailingDisk:
        return await trio.to_thread.run_sync(partial(FailingDisk, directory, lambda: machine.troubles))

    async def dial(address: str) -> trio.abc.Stream:
        return await dial_tcp(routes[peers[address]])

    log_to_stderr()
    platform = Platform(open_disk=open_disk, dial=dial, wall_ns=machine.clock.wall_ns)
    try:
        trio.run(serve_words, words, platform, machine.hear_all, clock=machine.clock)
    except* TrioPbError as errors:
        print(f"stopped: {errors.exceptions[0]}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
