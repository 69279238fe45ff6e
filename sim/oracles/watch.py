"""The hub: tells every oracle what it asked to hear, and nothing else.

An oracle is a class with hook methods; having a method is asking for that news. So a check costs only
where something changed that it looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sim.oracles.facts import Facts, violate
from sim.oracles.testimony import Testimony
from trio_pb.core import messages
from trio_pb.core.durable import Scan, Superblock
from trio_pb.core.ports import Apply, Collect, Send, Start, SuperblockWrite, ToClient, WalAppend
from trio_pb.core.prepare import PrepareId
from trio_pb.core.replica import Replica
from trio_pb.core.state import State

__all__ = ["Oracle", "Watch"]

# Each takes (replica, send, message).
_MESSAGE_HOOKS: dict[type[object], str] = {
    messages.PrepareMessage: "on_prepare",
    messages.PrepareCopy: "on_prepare_copy",
    messages.PrepareOk: "on_prepare_ok",
    messages.Commit: "on_commit_message",
    messages.CommitOk: "on_commit_ok",
    messages.DoViewChange: "on_do_view_change",
    messages.StartView: "on_start_view",
    messages.StartViewChange: "on_start_view_change",
    messages.Ping: "on_ping",
    messages.Pong: "on_ping",
    messages.GetPrepares: "on_get_prepares",
    messages.Ids: "on_ids",
    messages.ReadIndexOk: "on_read_index_ok",
}
_HOOKS = frozenset(
    {
        *_MESSAGE_HOOKS.values(),
        *("on_start", "on_send", "on_append", "on_image_durable", "on_apply", "on_from_client", "on_to_client"),
        *("on_committed", "on_step", "on_core", "on_state", "on_collect", "on_adopt", "on_end"),
    }
)


class Oracle:
    """Base of all checks. Hooks, all optional:

    on_start(replica, start), on_send(replica, send), the message hooks above, on_append(replica, append),
    on_image_durable(replica, before, after), on_apply(replica, apply), on_from_client(replica, message) when it
    arrives, on_to_client(replica, message),
    on_committed(replica, first_op, last_op) when the committed log grew, on_step(replica, state) after
    each step, on_core(replica, core) now and then after a step, on_state(replica, op, digest),
    on_collect(replica, collect), on_adopt(replica, op) when a transferred state replaces a replica's own, on_end().
    """  # noqa: D415

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def __init_subclass__(cls) -> None:
        """Refuse a hook that nobody calls.

        Raises:
            TypeError: there is no such news.
        """
        for name in vars(cls):
            if name.startswith("on_") and name not in _HOOKS:
                raise TypeError(f"{cls.__name__}.{name}: there is no such hook; there are {', '.join(sorted(_HOOKS))}")


class Watch:
    """Facts and oracles of one run."""

    def __init__(self, facts: Facts, oracles: Sequence[Oracle], *, is_beyond: bool = False) -> None:
        """`is_beyond`: the run goes beyond the fault model."""
        self.facts = facts
        self.testimony = Testimony(facts, may_fail=is_beyond)
        self.oracles = tuple(oracles)
        self.suffixes_dropped = 0  # Installs that left out what the replica's own log had.
        self._given: dict[int, dict[int, bytes]] = {}  # Replica -> op -> the prepare last handed to its disk.
        self._commit_points: dict[int, int] = {}  # Replica -> its commit point as last seen.
        self._by_message = {kind: self._hooks(name) for kind, name in _MESSAGE_HOOKS.items()}
        self._start = self._hooks("on_start")
        self._send = self._hooks("on_send")
        self._append = self._hooks("on_append")
        self._image = self._hooks("on_image_durable")
        self._apply = self._hooks("on_apply")
        self._from_client = self._hooks("on_from_client")
        self._to_client = self._hooks("on_to_client")
        self._committed = self._hooks("on_committed")
        self._step = self._hooks("on_step")
        self._core = self._hooks("on_core")
        self._state = self._hooks("on_state")
        self._collect = self._hooks("on_collect")
        self._adopt = self._hooks("on_adopt")
        self._end = self._hooks("on_end")

    def _fall_silent(self) -> None:
        """A disk took back a promise, and nobody can know: what rests on promises is not owed any more (7.4)."""
        self._by_message = {}
        self._start = self._send = self._append = self._image = self._apply = ()
        self._from_client = self._to_client = self._committed = self._step = self._core = self._state = (
            self._collect
        ) = self._adopt = self._end = ()

    def listen(self, hook: Callable[[int, State], None]) -> None:
        """Have somebody more told of every step."""
        self._step = (*self._step, hook)

    def _hooks(self, name: str) -> tuple[Callable[..., None], ...]:
        # Hooks have different signatures, which a lookup by name cannot tell: hence the ellipsis.
        found: list[Any] = [getattr(oracle, name, None) for oracle in self.oracles]
        return tuple(hook for hook in found if hook is not None)

    def start(self, replica: int, start: Start, durable: Scan) -> None:
        """A replica opened its storage; `durable` is the part of its scan that a power cut now would leave."""
        disk = self.facts.disks[replica]
        if _is_sound(start, disk.flipped_op):
            disk.is_flipped = False
        if disk.is_on_its_way(start.superblock):
            before, disk.superblock = disk.superblock, start.superblock
            self._image_durable(replica, before, disk.superblock)  # A crash kept its completion from us.
        self.testimony.hear(replica, start.superblock, start.scan)
        if self.testimony.is_lost:
            self._fall_silent()
        for hook in self._start:
            hook(replica, start)
        self.facts.disks[replica].restarted(start.superblock, durable)
        self._commit_points[replica] = 0

    def send(self, replica: int, send: Send) -> None:
        """A message leaves for peers."""
        kind = type(send.message)
        if kind is messages.PrepareMessage:
            assert isinstance(send.message, messages.PrepareMessage)
            self.facts.register(send.message.prepare)
        if self.testimony.is_lost and isinstance(send.message, messages.StartView):
            self.testimony.note_start_view(send.envelope.view, send.message)
        for hook in self._send:
            hook(replica, send)
        for hook in self._by_message.get(kind, ()):
            hook(replica, send, send.message)

    def append(self, replica: int, append: WalAppend) -> None:
        """Prepares go to the disk."""
        given = self._given.setdefault(replica, {})
        for prepare in append.prepares:
            self.facts.register(prepare)
            given[prepare.op] = prepare.checksum
        self.facts.disks[replica].append(append)
        for hook in self._append:
            hook(replica, append)

    def append_done(self, replica: int, sequence: int) -> None:
        """Appends became durable."""
        self.facts.disks[replica].appends_done(sequence)

    def image(self, replica: int, write: SuperblockWrite) -> None:
        """A superblock image goes to the disk."""
        self.facts.disks[replica].write(write)

    def image_done(self, replica: int, sequence: int) -> None:
        """A superblock image became durable."""
        disk = self.facts.disks[replica]
        before = disk.image_done(sequence)
        if before is not None:
            self._image_durable(replica, before, disk.superblock)

    def _image_durable(self, replica: int, before: Superblock, after: Superblock) -> None:
        if after.log_view != before.log_view:
            self._note_install(replica, after)
        for hook in self._image:
            hook(replica, before, after)

    def _note_install(self, replica: int, image: Superblock) -> None:
        given, install = self._given.get(replica, {}), image.install
        kept = {op: checksum for op, checksum in given.items() if op <= install.base.op}
        new = enumerate(install.checksums, install.base.op + 1)
        kept.update({op: checksum for op, checksum in new if given.get(op) == checksum})
        self.suffixes_dropped += len(kept) < len(given)
        self._given[replica] = kept

    def apply(self, replica: int, apply: Apply) -> None:
        """Requests go to a state machine."""
        for hook in self._apply:
            hook(replica, apply)

    def from_client(self, replica: int, message: messages.ClientMessage) -> None:
        """A request or a read arrived at a replica."""
        for hook in self._from_client:
            hook(replica, message)

    def to_client(self, replica: int, output: ToClient) -> None:
        """An answer leaves for a client."""
        for hook in self._to_client:
            hook(replica, output.message)

    def step(self, replica: int, state: State) -> None:
        """A replica took a step; called before its outputs go anywhere."""
        if state.commit_max != self._commit_points.get(replica):
            self._commit_points[replica] = state.commit_max
            self._note_commit(replica, state)
        for hook in self._step:
            hook(replica, state)

    def core(self, replica: int, core: Replica) -> None:
        """A look at the whole of a replica, now and then."""
        for hook in self._core:
            hook(replica, core)

    def _note_commit(self, replica: int, state: State) -> None:
        facts = self.facts
        op, checksum = state.commit_known
        if op <= facts.committed_op:
            if facts.committed[op] != checksum:
                self._conflict(replica, PrepareId(op, checksum))
            return
        first = facts.committed_op + 1
        chain = facts.chain(PrepareId(op, checksum), first - 1)
        if chain is None:
            return  # A link that we never saw in a message or append: another replica will show it.
        below = facts.parent_of(chain[0])
        if below != facts.committed[first - 1]:
            self._conflict(replica, PrepareId(first - 1, below))
            return
        facts.committed.extend(chain)
        for hook in self._committed:
            hook(replica, first, op)

    def _conflict(self, replica: int, id_: PrepareId) -> None:
        if not self.testimony.is_lost:
            violate(
                "INV-2", f"R{replica} takes for committed at op {id_.op} another prepare than the one committed first"
            )
        self.testimony.note_other(id_)

    def state(self, replica: int, op: int, digest: bytes) -> None:
        """A state machine's digest after `op`."""
        for hook in self._state:
            hook(replica, op, digest)

    def collect(self, replica: int, collect: Collect) -> None:
        """Records and chunks may be forgotten."""
        for hook in self._collect:
            hook(replica, collect)
        disk = self.facts.disks[replica]
        disk.freed_below = max(disk.freed_below, collect.wal_low)

    def adopt(self, replica: int, op: int) -> None:
        """A transferred checkpoint became a replica's state."""
        self.facts.disks[replica].is_flipped = False
        for hook in self._adopt:
            hook(replica, op)

    def end(self) -> None:
        """The run is over."""
        for hook in self._end:
            hook()


def _is_sound(start: Start, flipped_op: int) -> bool:
    """Whether the state that a boot loaded is right, though its replica's memory went wrong at `flipped_op`.

    What it loaded counts: its own newest may be damaged, and an older one loads instead. A quorum vouches for the
    certified one.
    """
    own, certified = start.superblock.checkpoint, start.superblock.certified
    loaded = start.checkpoint.op if start.checkpoint is not None else 0
    return loaded <= flipped_op or (loaded == certified.op and (loaded != own.op or own == certified))
