"""Where a small world begins: everybody is born, R1 leads view 1, every client has its session.

View 0 has no primary, so a fresh cluster changes view first. That is always the same and no part of the bounds.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from sim.exhaust.canonical import Entries
from sim.exhaust.disk import Disk
from sim.exhaust.snapshot import Snapshot, Stage
from sim.exhaust.step import Acting
from trio_pb.core.config import Options
from trio_pb.core.durable import Install, Proof, Superblock
from trio_pb.core.messages import CODE_REGISTER, Configuration, Request
from trio_pb.core.ports import FromClient, FromPeer, Send
from trio_pb.core.prepare import genesis
from trio_pb.core.state import VIEW_MODULUS

__all__ = ["CLUSTER", "FIRST_VIEW", "Beginning", "begin", "fresh_disk", "views_after_first"]

CLUSTER = b"small world".ljust(16, b".")
FIRST_VIEW = 1
CODE = 2  # The first of the application's own.
CONNECTION = 1


class Beginning(NamedTuple):
    """What everybody remembers and has on disk, and what the clients are about to ask for."""

    entries: Entries
    snapshots: tuple[Snapshot, ...]
    disks: tuple[Disk, ...]
    requests: tuple[Request, ...]
    log: tuple[bytes, ...]  # What is committed, by op.


def views_after_first(replicas: int, count: int) -> tuple[int, ...]:
    """The next so many views, those left out that nobody leads."""
    views: list[int] = []
    view = FIRST_VIEW
    while len(views) < count:
        view += 1
        if view % VIEW_MODULUS >= replicas:
            view += VIEW_MODULUS - view % VIEW_MODULUS
        views.append(view)
    return tuple(views)


def client(number: int) -> bytes:
    """The id of a client."""
    return bytes([number + 1]) * 16


def begin(replicas: int, clients: int) -> Beginning:
    """Start everybody, and let everything happen in its usual order until nothing is left to do.

    Raises:
        Violation, AssertionError: there is a bug in the code that shows even so.
    """
    entries, stages = Entries(), [Stage(Options()) for _ in range(replicas)]
    actors = [
        Acting(number, stage.replica, fresh_disk(number, len(stages)), entries) for number, stage in enumerate(stages)
    ]
    entries.learn(genesis(CLUSTER))
    for actor in actors:
        actor.start()
    _settle(actors)
    for actor in actors:
        actor.fire(actor.replica.peers.ping_timeout)
    _settle(actors)
    primary = actors[FIRST_VIEW]
    assert primary.replica.state.is_leading, "the replica after the first leads first"
    # All in one batch, so that nobody's session is older than another's.
    registrations = [Request(client(number), 0, 0, CODE_REGISTER, b"") for number in range(clients)]
    primary.take(*[FromClient(CONNECTION, request) for request in registrations])
    _settle(actors)
    primary.heartbeat()
    _settle(actors)
    log = primary.replica.state.log
    entries.given_op = log.head
    sessions = [primary.replica.execution.sessions.session_of(client(number)) for number in range(clients)]
    requests = [Request(client(number), session or 0, 1, CODE, b"") for number, session in enumerate(sessions)]
    assert all(it.replica.state.applied == entries.given_op for it in actors), "everybody is up to date"
    return Beginning(
        entries=entries,
        snapshots=tuple([stage.take() for stage in stages]),
        disks=tuple([actor.disk for actor in actors]),
        requests=tuple(requests),
        log=tuple([log.id(op).checksum for op in range(log.head + 1)]),
    )


def fresh_disk(replica: int, replicas: int) -> Disk:
    """As `format` and birth leave it."""
    first = genesis(CLUSTER).id
    pinned = tuple((other, _incarnation(other)) for other in range(replicas) if other != replica)
    superblock = Superblock(
        cluster=CLUSTER,
        replica=replica,
        incarnation=_incarnation(replica),
        boot=0,
        born=True,
        view=0,
        log_view=0,
        install=Install(base=first),
        commit=first,
        configuration=Configuration(0, tuple(range(replicas))),
        pinned=pinned,
    )
    return Disk(superblock, Proof(0, 0, 0, b"", first), frozenset())


def _incarnation(replica: int) -> bytes:
    return bytes([0xA0 + replica]) * 16


def _settle(actors: list[Acting]) -> None:
    """Every disk finishes, every message arrives, in order."""
    sent: deque[Send] = deque()
    while True:
        for actor in actors:
            while actor.disk.image is not None or actor.disk.appends:
                actor.image_done() if actor.disk.image is not None else actor.append_done()
            sent.extend(actor.sent)
            actor.sent.clear()
        if not sent:
            return
        send = sent.popleft()
        for destination in send.replicas:
            actors[destination].take(FromPeer(send.envelope, send.message))
