"""What of a state can matter later: the part of a replica, a disk or a message that its fingerprint covers.

Two replicas with equal forms answer every move alike, for ever, so one of them is enough. What is left out cannot
make a difference within the bounds of a small world; `_LEFT_OUT` says why, and `tests/sim/exhaust` tries it: states
with equal forms are put side by side and moved alike.

Names stand for checksums: an entry is named by what it contains and what it follows. So clients whose requests are
alike can change places (`Renaming`): of worlds that differ only in who is called what, one is explored.
"""

from __future__ import annotations

import marshal
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from hashlib import blake2b
from typing import Any, TypeAlias, cast

import attrs

from trio_pb.core.log import Log
from trio_pb.core.prepare import CHECKSUM_SIZE, Prepare

__all__ = ["Entries", "Form", "Former", "Renaming", "fingerprint"]

Form: TypeAlias = "tuple[Any, ...] | int | str | bytes | None"

FINGERPRINT_SIZE = 16
_MARSHAL_PLAIN = 2  # The newest format in which equal values have equal bytes.


def fingerprint(form: Form) -> bytes:
    """16 bytes that two forms have in common only when they are equal, or once in 2^64 forms."""
    return blake2b(marshal.dumps(form, _MARSHAL_PLAIN), digest_size=FINGERPRINT_SIZE).digest()


class Entries:
    """Every log entry that was ever made in a world, by checksum."""

    def __init__(self) -> None:
        self.by_checksum: dict[bytes, Prepare] = {}
        self.given_op = 0  # Those up to here were there when the exploration began.

    def learn(self, prepare: Prepare) -> None:
        """An entry is on its way to a disk or a peer."""
        self.by_checksum.setdefault(prepare.checksum, prepare)


@attrs.frozen(eq=False)
class Renaming:
    """Clients that change places, each with its session; what they ask for is alike but for who asks."""

    entries: Entries
    clients: Mapping[bytes, bytes]
    sessions: Mapping[int, int]
    _names: dict[bytes, bytes] = attrs.field(factory=dict[bytes, bytes])

    def name(self, checksum: bytes) -> bytes:
        """The entry with this checksum by its content; anything else as it is."""
        named = self._names.get(checksum)
        if named is not None:
            return named
        entry = self.entries.by_checksum.get(checksum)
        if entry is None:
            return self.clients.get(checksum, checksum)
        if entry.op <= self.entries.given_op:
            named = b"given %d" % entry.op
        else:
            requests = tuple([self._request(*request) for request in entry.requests()])
            content = (entry.op, entry.view, self.name(entry.parent), entry.commit, entry.timestamp, requests)
            named = fingerprint(content)
        self._names[checksum] = named
        return named

    def _request(self, client: bytes, session: int, number: int, code: int, body: bytes) -> Form:
        return (self.clients.get(client, client), self.sessions.get(session, session), number, code, body)


_CONSTANT = "the same in all states of a world"
_TIME = "time stands still: a timer fires because the world says so"
_COUNTED = "counted, or drawn for the length of a timer; nothing is decided by it"
_DERIVED = "follows from the rest"
_OF_A_ROLE = "`Machine` adds it where the role that uses it is played"
_ANSWERS = "goes into answers to clients, or into checkpoints, of which there are none below op 64"

_LEFT_OUT: dict[str, dict[str, str]] = {
    "State": {
        **dict.fromkeys(("options", "cluster", "replica", "incarnation", "configuration", "quorums"), _CONSTANT),
        **dict.fromkeys(("limits", "timeouts", "apply_limit", "probe", "checkpoint", "certified"), _CONSTANT),
        **dict.fromkeys(("now_tick", "wall_ns", "wall_tick", "progress"), _TIME),
        **dict.fromkeys(("counters", "random"), _COUNTED),
        **dict.fromkeys(("_envelope", "_voters_of", "_others", "outputs"), _DERIVED),
    },
    "Persistence": {
        "state": _DERIVED,
        "_append_sequence": "completions come in the order of the appends",
        "_image_sequence": "one image at a time",
        "_proof_counter": "see `ranks_of`",
    },
    "WalAppend": {"sequence": "completions come in the order of the appends"},
    "SuperblockWrite": {"sequence": "one image at a time"},
    "_Append": {"sequence": "completions come in the order of the appends", "started_tick": _TIME},
    "Peers": {"_sequence": "pongs are lost", "_pins": _CONSTANT, "_pins_of": _CONSTANT},
    "Peer": {
        **dict.fromkeys(("answered_tick", "stale_answer_tick", "progress"), _TIME),
        **dict.fromkeys(("replica", "checkpoint", "wal_low"), _CONSTANT),
    },
    "Repair": {"_patience": _TIME, "_serving": "far less than what one peer may take", "log": _DERIVED},
    "_Asked": {"deadline_tick": _TIME},
    "Execution": dict.fromkeys(("applied_timestamp", "_rolling"), _ANSWERS),
    "SessionTable": {"_sessions_max": _CONSTANT, "_window": _CONSTANT},
    "_Session": {"registered": _CONSTANT, "row": _DERIVED},
    "KeptReply": {"timestamp": _ANSWERS},
    "Admission": dict.fromkeys(("queue_bytes", "_held_count", "_parked_bytes"), _DERIVED),
    "Normal": {
        **dict.fromkeys(("acked_ops", "_acked_sent"), _OF_A_ROLE),
        "_buffer": _DERIVED,
        "_start_view_requests": "nobody is amnesiac",
    },
    "Reads": dict.fromkeys(("_echoed", "_tokens", "_token", "_index_counter", "_waiting", "round_is_due"), _CONSTANT),
    "ViewChange": {
        **dict.fromkeys(("_attempts", "_entered_tick", "_progress_seen"), _TIME),
        **dict.fromkeys(("_stated", "_selected", "_is_selection_stale", "_is_unsaid"), _OF_A_ROLE),
        "_nonce": "nobody is amnesiac",
    },
    "Superblock": dict.fromkeys(
        ("cluster", "replica", "incarnation", "configuration", "pinned", "checkpoint", "certified"), _CONSTANT
    ),
    "DoViewChange": dict.fromkeys(("checkpoint", "certified", "wal_low", "configuration", "pending"), _CONSTANT),
    "StartView": {
        **dict.fromkeys(("certified", "configuration", "pending"), _CONSTANT),
        "nonce": "nobody is amnesiac",
    },
    "GetStartView": {"nonce": "nobody is amnesiac"},
    "PrepareMessage": {"round": _CONSTANT},
    "PrepareOk": dict.fromkeys(("round", "checkpoint", "probe"), _CONSTANT),
    "Commit": dict.fromkeys(("round", "certified"), _CONSTANT),
    "CommitOk": dict.fromkeys(("round", "checkpoint", "probe"), _CONSTANT),
    "Position": {
        **dict.fromkeys(("sequence", "sent_tick", "wall_ns", "progress"), _TIME),
        **dict.fromkeys(("wal_low", "checkpoint", "certified", "probe", "release_min", "release_max"), _CONSTANT),
        **dict.fromkeys(("configuration", "pending"), _CONSTANT),
    },
    "Envelope": dict.fromkeys(("cluster", "replica", "incarnation", "epoch", "release"), _CONSTANT),
}


class Former:
    """Makes forms under one renaming. `ranks` stands for the proof numbers of the replica at hand."""

    def __init__(self, renaming: Renaming, replicas: int) -> None:
        self._name = renaming.name
        self._sessions = renaming.sessions
        self._turns = max(replicas - 1, 1)
        self.ranks: Mapping[int, int] = {}
        self._makers: dict[type, Callable[[Any], Form]] = {
            **dict.fromkeys((bool, str, type(None)), _same),
            int: self._integer,
            bytes: self._name,
            bytearray: bytes,
            **dict.fromkeys((tuple, list, deque), self._sequence),
            **dict.fromkeys((set, frozenset), self._set),
            **dict.fromkeys((dict, OrderedDict), self._mapping),
            Prepare: lambda prepare: self._name(prepare.checksum),
            Log: self._log,
        }

    def form(self, value: Any) -> Form:
        """The form of any part of a state."""
        plain: object = value
        kind = type(plain)
        maker = self._makers.get(kind) or self._maker_of(kind)
        return maker(value)

    def _maker_of(self, kind: type[Any]) -> Callable[[Any], Form]:
        maker = self._fields_maker(kind)
        if issubclass(kind, Enum):
            maker = _value
        elif issubclass(kind, tuple):
            maker = self._sequence
        self._makers[kind] = maker
        return maker

    def _fields_maker(self, kind: type[Any]) -> Callable[[Any], Form]:
        left_out = _LEFT_OUT.get(kind.__name__, {})
        special = {name: special for (owner, name), special in self._specials().items() if owner == kind.__name__}
        names: tuple[str, ...] | None = None
        if attrs.has(kind):
            fields = attrs.fields(kind)
            names = tuple(field.name for field in fields if field.name not in left_out and field.name not in special)
        form = self.form

        def make(value: Any) -> Form:
            kept = names if names is not None else _names_of_room(value, left_out, special)
            plain = [form(getattr(value, name)) for name in kept]
            return (*plain, *[maker(getattr(value, name)) for name, maker in special.items()])

        return make

    def _specials(self) -> dict[tuple[str, str], Callable[[Any], Form]]:
        """Fields of which only a part matters."""
        return {
            ("Proof", "sequence"): self._rank,  # Compared, never told.
            ("Proof", "checksums"): self._joined,
            ("Install", "proof_base"): self._rank,
            ("Peer", "pong_tick"): lambda tick: tick is not None,
            ("Repair", "_ids_asked_until"): bool,
            ("Repair", "_turn"): lambda turn: turn % (2 if self._turns <= 2 else 12),  # Of 1 to 4 sources.
        }

    # --- Makers -----------------------------------------------------------------------------------

    def _integer(self, value: int) -> Form:
        return self._sessions.get(value, value)

    def _rank(self, sequence: int) -> Form:
        return self.ranks[sequence]

    def _joined(self, checksums: bytes) -> Form:
        starts = range(0, len(checksums), CHECKSUM_SIZE)
        return tuple([self._name(checksums[start : start + CHECKSUM_SIZE]) for start in starts])

    def _sequence(self, values: Iterable[Any]) -> Form:
        form = self.form
        return tuple([form(value) for value in values])

    def _set(self, values: Iterable[Any]) -> Form:
        return tuple(sorted(cast("Iterable[Any]", map(self.form, values))))

    def _mapping(self, values: Mapping[Any, Any]) -> Form:
        form = self.form
        pairs = [(cast("Any", form(key)), form(value)) for key, value in values.items()]
        pairs.sort(key=_first)
        return tuple(pairs)

    def _log(self, log: Log) -> Form:
        kept = vars(log)
        return (
            self.form(log.base),
            self.form(kept["_checksums"]),
            bytes(kept["_holds"]),
            tuple(sorted(kept["_bodies"])),
            log.durable_prefix,
            log.appended_prefix,
        )


def _names_of_room(room: object, left_out: Mapping[str, str], special: Mapping[str, object]) -> list[str]:
    """What a room keeps for itself: not the other rooms, nor timers, nor the state that all share."""
    return [
        name
        for name, value in vars(room).items()
        if name not in left_out and name not in special and name != "state" and not _is_elsewhere(value)
    ]


def _is_elsewhere(value: object) -> bool:
    return type(value).__name__ in _ELSEWHERE or (callable(value) and not isinstance(value, type))


# Rooms and timers are forms of their own; a room's parts that are rooms themselves are not listed here.
_ELSEWHERE = frozenset(
    {
        *("State", "Persistence", "ClusterClock", "Peers", "Repair", "Execution", "Checkpoints", "StateTransfer"),
        *("Upkeep", "Reads", "Admission", "Normal", "Wishes", "ViewChange", "Leadership", "Birth", "Timeout"),
    }
)


def _same(value: Any) -> Form:
    return cast("Form", value)


def _value(value: Enum) -> Form:
    return cast("Form", value.value)


def _first(pair: tuple[Any, Form]) -> Any:
    return pair[0]
