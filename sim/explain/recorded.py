"""The parts of a cluster whose run is told: as they are, and every piece of news is passed on.

Listening changes nothing: no decision is drawn, no event is scheduled, and the trace of the run is the same
with it and without.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sim.choices import Choices
from sim.disk import SECTOR_SIZE, FakeDisk, Place
from sim.explain.flights import ListeningNetwork
from sim.explain.post import Post
from sim.explain.recorder import Recorder
from sim.oracles.facts import Facts
from sim.oracles.watch import Oracle, Watch
from sim.telling import Parts
from sim.workload import History, Operation
from trio_pb.core.client_ports import Failure, Success
from trio_pb.core.durable import Scan
from trio_pb.core.ports import Apply, Send, Start, ToClient, WalAppend
from trio_pb.core.state import State

__all__ = ["listening_parts"]


def listening_parts(recorder: Recorder) -> Parts:
    """Return the parts of a cluster, each of which passes on what it is told."""
    return Parts(
        network=partial(ListeningNetwork, recorder.post.flights, recorder.post.departs),
        watch=partial(_Watch, recorder),
        disk=partial(_Disk, recorder),
        history=partial(_History, recorder.post),
        traced=recorder.traced,
        arrived=recorder.arrived,
    )


class _Watch(Watch):
    """Hears all news first, so that what an oracle objects to is in the story."""

    def __init__(self, recorder: Recorder, facts: Facts, oracles: Sequence[Oracle], *, is_beyond: bool) -> None:
        super().__init__(facts, oracles, is_beyond=is_beyond)
        self._recorder = recorder

    def start(self, replica: int, start: Start, durable: Scan) -> None:
        self._recorder.started(replica, start)
        super().start(replica, start, durable)

    def step(self, replica: int, state: State) -> None:
        self._recorder.stepped(replica, state)
        super().step(replica, state)

    def send(self, replica: int, send: Send) -> None:
        self._recorder.sent(replica, send)
        super().send(replica, send)

    def to_client(self, replica: int, output: ToClient) -> None:
        self._recorder.answered(replica, output)
        super().to_client(replica, output)

    def append(self, replica: int, append: WalAppend) -> None:
        self._recorder.appended(replica, append)
        super().append(replica, append)

    def append_done(self, replica: int, sequence: int) -> None:
        self._recorder.append_durable(replica, sequence)
        super().append_done(replica, sequence)

    def image_done(self, replica: int, sequence: int) -> None:
        before = self.facts.disks[replica].superblock
        super().image_done(replica, sequence)
        self._recorder.image_durable(replica, before, self.facts.disks[replica].superblock)

    def apply(self, replica: int, apply: Apply) -> None:
        self._recorder.applied(replica, apply)
        super().apply(replica, apply)


class _Disk(FakeDisk):
    """Tells what befalls it."""

    def __init__(self, recorder: Recorder, owner: int, choices: Choices) -> None:
        super().__init__(owner, choices)
        self._recorder = recorder

    def rot(self, file: str, sector: int) -> None:
        self._recorder.disk_fault(self.owner, f"sector {sector} of {file} changes by itself")
        super().rot(file, sector)

    def make_unreadable(self, file: str, sector: int, reads: int = 1 << 60) -> None:
        self._recorder.disk_fault(self.owner, f"sector {sector} of {file} cannot be read")
        super().make_unreadable(file, sector, reads)

    def lose_file(self, file: str) -> None:
        self._recorder.disk_fault(self.owner, f"{file} is gone")
        super().lose_file(file)

    def _write_astray(self, place: Place, data: bytes) -> None:
        where = "goes nowhere" if place.file is None else f"hits sector {place.offset // SECTOR_SIZE} of {place.file}"
        what = "a write" if not place.kept else f"a write but for its first {place.kept} bytes"
        self._recorder.disk_fault(self.owner, f"{what} {where} instead of its place")
        super()._write_astray(place, data)


class _History(History):
    """Tells what clients ask and hear."""

    def __init__(self, post: Post) -> None:
        super().__init__()
        self._post = post

    def begin(self, operation: Operation, now: int) -> None:
        self._post.begins(operation)
        super().begin(operation, now)

    def end(self, operation: Operation, outcome: Success | Failure, now: int) -> None:
        super().end(operation, outcome, now)
        self._post.ends(operation)
