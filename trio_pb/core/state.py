"""What the rooms of the core share: who we are, where we stand, what we say (PROTOCOL 2.4).

The rooms (`normal`, `view_change`, `repair`, ...) read and change this state; each field names who
changes it. Nothing here decides anything.
"""

from __future__ import annotations

import random
from collections import Counter

import attrs

from trio_pb.core.config import Limits, Options, Timeouts
from trio_pb.core.log import Log
from trio_pb.core.messages import (
    GENESIS_CHECKPOINT,
    NO_PROBE,
    CheckpointId,
    Configuration,
    Envelope,
    PeerMessage,
    Probe,
    Reject,
    RejectCode,
    Reply,
    Status,
)
from trio_pb.core.ports import Fatal, Output, Requires, Send, ToClient, Trace
from trio_pb.core.prepare import Prepare, PrepareId, checksum_of, genesis
from trio_pb.core.quorum import Quorums, quorums_of

__all__ = ["VIEW_MODULUS", "State", "members_digest", "primary_of"]

VIEW_MODULUS = 1024  # R-PRIMARY: the primary of a view is view mod 1024, a replica id.
_NORMAL = Status.NORMAL  # Asked for many times a step.


def primary_of(view: int) -> int:
    """The replica that leads `view`, whatever the configuration (R-PRIMARY)."""
    return view % VIEW_MODULUS


def members_digest(cluster: bytes, configuration: Configuration) -> bytes:
    """What bootstrap members compare before they pin one another (PROTOCOL 7.6)."""
    members = ",".join(str(replica) for replica in configuration.voters + configuration.standbys)
    return checksum_of(cluster + members.encode())


@attrs.define(eq=False)
class State:
    """The shared state of one boot of one replica."""

    options: Options
    # Identity; set by recovery, constant afterwards.
    cluster: bytes = bytes(16)
    replica: int = 0
    incarnation: bytes = bytes(16)
    boot: int = 0
    configuration: Configuration = attrs.field(factory=lambda: Configuration(0, (0,)))
    quorums: Quorums = attrs.field(factory=lambda: quorums_of(1))
    random: random.Random = attrs.field(factory=random.Random)  # Jitter only.
    # Parts of the options, here because every step looks at them many times.
    limits: Limits = attrs.field(init=False, default=attrs.Factory(lambda self: self.options.limits, takes_self=True))
    timeouts: Timeouts = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.options.timeouts, takes_self=True)
    )
    # Position. `view` may run ahead of `durable_view` while the superblock is written.
    status: Status = Status.UNBORN  # Changed by view_change, birth and recovery alone.
    view: int = 0
    log_view: int = 0  # Moves only together with the log, when a superblock image is durable.
    durable_view: int = 0
    is_live: bool = False  # This boot's number is durable; before that nothing may be sent.
    log: Log = attrs.field(factory=lambda: Log(genesis(bytes(16)).id))
    commit_max: int = 0  # Highest op known committed; may exceed the head.
    commit_known: PrepareId = attrs.field(factory=lambda: genesis(bytes(16)).id)  # Highest with its checksum.
    applying: int = 0  # Highest op given to the state machine.
    applied: int = 0  # Highest op that the state machine confirmed.
    apply_limit: int = 0  # Nothing above is applied before the state at this op was frozen (checkpoints).
    probe: Probe = NO_PROBE  # Digest of all results, at the last multiple of probe_interval_ops (execution).
    checkpoint: CheckpointId = GENESIS_CHECKPOINT  # Our newest that is live (checkpoints).
    certified: CheckpointId = GENESIS_CHECKPOINT  # The newest that a quorum agrees on (checkpoints).
    is_untrusted: bool = False  # Our state differs from the others': serve nothing from it (checkpoints).
    is_state_lost: bool = False  # No checkpoint of ours loads: nothing can be applied (recovery).
    is_switching: bool = False  # An image that replaces our state and log base is on its way (state_transfer).
    is_disk_full: bool = False  # New requests are refused until there is space (upkeep).
    commit_heard: int = 0  # Backup: highest commit point that the primary of this view told us.
    acked: int = 0  # Every prepare_ok of this lineage was for an op at or below (persistence).
    start_view_head: int = 0  # Head of the log that our log_view began with.
    abdicated: bool = False  # This primary stopped leading; never undone within a view.
    is_handing_over: bool = False  # Admission is closed until another can lead (leadership).
    unfit: set[str] = attrs.field(factory=set[str])  # Reasons not to lead.
    progress: int = 0  # Repair steps done as a new primary.
    last_timestamp: int = 0
    # Time.
    now_tick: int = 0
    wall_ns: int = 0  # As of `wall_tick`.
    wall_tick: int = 0
    # What leaves with this step.
    outputs: list[Output] = attrs.field(factory=list[Output])
    counters: Counter[str] = attrs.field(factory=Counter[str])
    _envelope: Envelope | None = None
    _voters_of: Configuration | None = None  # Whose voters and peers the following are.
    _others: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

    @property
    def primary(self) -> int:
        """Who leads our view."""
        return primary_of(self.view)

    @property
    def is_primary(self) -> bool:
        """Whether we lead: normal, in our own view."""
        return self.status is _NORMAL and self.view % VIEW_MODULUS == self.replica

    @property
    def is_backup(self) -> bool:
        """Whether we follow: normal, in another's view."""
        return self.status is _NORMAL and self.view % VIEW_MODULUS != self.replica

    @property
    def is_leading(self) -> bool:
        """Whether we lead and mean to go on."""
        return self.status is _NORMAL and not self.abdicated and self.view % VIEW_MODULUS == self.replica

    @property
    def peers(self) -> tuple[int, ...]:
        """All other replicas, sorted."""
        return self._others_of_configuration()[0]

    @property
    def voters_but_self(self) -> tuple[int, ...]:
        """The other voters, sorted."""
        return self._others_of_configuration()[1]

    def _others_of_configuration(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        # Asked for with most messages, and changed once in the life of a cluster.
        configuration = self.configuration
        if self._voters_of is not configuration:
            everybody = sorted({*configuration.voters, *configuration.standbys})
            peers = tuple([replica for replica in everybody if replica != self.replica])
            voters = tuple([replica for replica in configuration.voters if replica != self.replica])
            self._voters_of, self._others = configuration, (peers, voters)
        return self._others

    def is_voter(self, replica: int) -> bool:
        """Whether `replica` votes in the ruling configuration."""
        return replica in self.configuration.voters

    @property
    def wal_low(self) -> int:
        """The lowest op whose record was not freed."""
        return self.log.base.op + 1

    @property
    def wal_high(self) -> int:
        """The highest op that a backup takes into its log: WAL_OPS above the newest checkpoint (PROTOCOL 5.2)."""
        return max(self.checkpoint.op, self.certified.op) + self.limits.wal_ops

    @property
    def fit(self) -> bool:
        """Whether we may be asked to lead."""
        return not self.unfit and self.status not in (Status.UNBORN, Status.AMNESIAC, Status.RETIRED)

    # --- Commit point ---------------------------------------------------------------------------

    def raise_commit(self, op: int, checksum: bytes | None) -> None:
        """Learn that everything up to `op` is committed; `checksum` is the prepare there, if known."""
        self.commit_max = max(self.commit_max, op)
        known = self.log.checksum(self.commit_max)
        if known is not None:
            self.commit_known = PrepareId(self.commit_max, known)
        elif checksum is not None and op > self.commit_known.op:
            self.commit_known = PrepareId(op, checksum)

    def note_timestamps(self, prepare: Prepare) -> None:
        """Whatever enters our log: later prepares, of any view, carry later timestamps (INV-17)."""
        self.last_timestamp = max(self.last_timestamp, prepare.timestamp + max(prepare.count, 1) - 1)

    @property
    def commit_checksum(self) -> bytes | None:
        """The prepare at commit_max, when known."""
        return self.commit_known.checksum if self.commit_known.op == self.commit_max else None

    # --- Speaking -------------------------------------------------------------------------------

    def envelope(self) -> Envelope:
        """What our frames say of us now; the view in it is the durable one (R-ENV)."""
        last, head = self._envelope, self.log.head
        if (
            last is None
            or last.view != self.durable_view
            or last.op != head
            or last.commit != self.commit_max
            or last.boot != self.boot
        ):
            last = self._envelope = Envelope(
                cluster=self.cluster,
                replica=self.replica,
                incarnation=self.incarnation[:8],
                boot=self.boot,
                epoch=self.configuration.epoch,
                view=self.durable_view,
                op=head,
                commit=self.commit_max,
                release=self.options.release,
            )
        return last

    def send(self, replicas: tuple[int, ...], message: PeerMessage, *, acked: int = 0) -> None:
        """Say something to peers; `acked` is the promise in it, for the durability check (R-OUT2)."""
        if replicas and self.is_live:
            requires = Requires(self.durable_view, self.log_view, acked)
            self.outputs.append(Send(replicas, self.envelope(), message, requires))

    def reply(self, connection: int, message: Reply | Reject) -> None:
        """Answer a client."""
        self.outputs.append(ToClient(connection, message))

    def reject(
        self, connection: int, client: bytes, session: int, number: int, code: RejectCode, retry_ms: int = 0
    ) -> None:
        """Refuse a client's request, with a hint where to go."""
        hint = self.primary if self.status is Status.NORMAL and primary_of(self.view) != self.replica else None
        address = dict(self.options.addresses).get(hint, "") if hint is not None else ""
        self.counters[f"rejected_{code.name.lower()}"] += 1
        self.reply(connection, Reject(client, session, number, code, hint, address, retry_ms))

    def trace(self, event: str, **fields: int) -> None:
        """Tell the world around us what happened; also counted."""
        self.counters[event] += 1
        self.outputs.append(Trace(event, tuple(fields.items())))

    def fatal(self, code: str, text: str) -> None:
        """Stop this replica."""
        self.outputs.append(Fatal(code, text))

    def jitter(self, ticks: int) -> int:
        """A seeded number of ticks in 0..ticks."""
        return self.random.randint(0, ticks)
