"""What replicas and the world trace, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias, cast

from sim.explain.model import Kind
from sim.partitions import PARTITIONS

__all__ = ["Told", "tell_trace"]

Fields: TypeAlias = Mapping[str, int]


class Told(NamedTuple):
    """One traced event in words."""

    replica: int | None  # None: it happened to the world.
    kind: Kind
    text: str
    about: tuple[str, ...] = ()
    view: int | None = None


class _Words(NamedTuple):
    kind: Kind
    text: str  # With {fields} of the event; continues the replica's name.
    about: str = ""  # Likewise.


# Events of the core, by name.
_OF_REPLICAS: Mapping[str, _Words] = MappingProxyType(
    {
        "became_primary": _Words(Kind.PRIMARY, "leads view {view}", "view {view}"),
        "became_backup": _Words(Kind.BACKUP, "follows the primary of view {view}", "view {view}"),
        "ex_primary": _Words(
            Kind.NOTE, "led view {view} before its restart, so it may not lead it again", "view {view}"
        ),
        "view_timeout": _Words(Kind.VIEW, "has waited for view {view} long enough (attempt {attempts})", "view {view}"),
        "abdicated": _Words(Kind.VIEW, "stops leading view {view}: it does not reach a quorum", "view {view}"),
        "view_change_entered": _Words(
            Kind.VIEW, "enters view {view}, and acknowledges nothing of an older view any more", "view {view}"
        ),
        "forfeited": _Words(Kind.VIEW, "cannot lead view {view}, and wishes for the next", "view {view}"),
        "selection_blocked": _Words(
            Kind.VIEW, "has heard everybody and cannot choose a log: nobody can give it op {op}", "op {op}"
        ),
        "selection_undecided": _Words(Kind.VIEW, "cannot choose a log yet: op {op} may have been committed", "op {op}"),
        "truncated": _Words(Kind.TRUNCATE, "drops the last {ops} ops of its log: the new view does not have them"),
        "installed": _Words(Kind.INSTALL, "has the log of view {view}: up to op {head}", "view {view}"),
        "repaired": _Words(Kind.REPAIR, "fetched op {op} from a peer", "op {op}"),
        "record_lost": _Words(Kind.FAULT, "finds its record of op {op} damaged", "op {op}"),
        "proof_lost": _Words(Kind.FAULT, "finds a copy of its proof damaged"),
        "superblock_copy_lost": _Words(Kind.FAULT, "finds a copy of its superblock damaged"),
        "chunk_lost": _Words(Kind.FAULT, "finds a piece of a checkpoint damaged"),
        "disk_full": _Words(Kind.FAULT, "finds its disk full, and takes no more requests"),
        "disk_has_space": _Words(Kind.HEAL, "finds room on its disk again"),
        "recovered": _Words(
            Kind.START, "recovers: it may have acknowledged up to op {acked}, and cannot read {faults} ops"
        ),
        "checkpoint_lost": _Words(Kind.FAULT, "cannot load its checkpoint of op {op}, and goes on from op {start}"),
        "state_lost": _Words(Kind.FAULT, "cannot load its checkpoint of op {op}"),
        "born": _Words(Kind.NOTE, "knows all others by now and takes part"),
        "identity_refused": _Words(Kind.NOTE, "refuses R{replica}: it is not the one that it knows"),
        "pinned": _Words(Kind.NOTE, "notes for good who R{replica} is"),
        "sync_begun": _Words(Kind.CHECKPOINT, "is too far behind: it begins to copy the checkpoint of op {op}"),
        "sync_chunks": _Words(Kind.CHECKPOINT, "lacks {missing} pieces of the checkpoint, {bytes} bytes"),
        "sync_ended": _Words(Kind.CHECKPOINT, "stops copying, at op {op}"),
        "state_transferred": _Words(Kind.CHECKPOINT, "takes over the state after op {op} from a checkpoint", "op {op}"),
        "checkpoint_begun": _Words(Kind.CHECKPOINT, "begins a checkpoint of its state after op {op}"),
        "checkpoint_done": _Words(Kind.CHECKPOINT, "has a durable checkpoint of op {op}"),
        "checkpoint_failed": _Words(Kind.CHECKPOINT, "cannot write its checkpoint of op {op}"),
        "certified": _Words(Kind.CHECKPOINT, "knows that a quorum has the same checkpoint of op {op}"),
        "diverged": _Words(Kind.FAULT, "finds that its state at op {op} is not that of the others"),
    }
)
# What the world around the replicas traces, by name; the replica's number follows.
_OF_PROCESSES: Mapping[str, _Words] = MappingProxyType(
    {
        "start": _Words(Kind.START, "starts and opens its disk"),
        "storage failed": _Words(Kind.FAULT, "stops: its disk failed"),
        "disk lost": _Words(Kind.STOP, "stops for good: its disk must not be used any more"),
        "stopped by itself": _Words(Kind.STOP, "stops for good, and says why"),
        "transfer done": _Words(Kind.NOTE, "was asked to hand over, and has finished with it"),
    }
)
_OF_THE_WORLD: Mapping[str, _Words] = MappingProxyType(
    {
        "healed": _Words(Kind.HEAL, "all faults end here: everybody runs, everything arrives"),
        "power cut": _Words(Kind.FAULT, "the power fails everywhere at once"),
        "lonely primary": _Words(Kind.FAULT, "ambush: the primary is cut off from the others, not from its clients"),
        "deaf primary": _Words(Kind.FAULT, "ambush: the primary stops for a while, then hears clients before peers"),
        "quick restart": _Words(Kind.FAULT, "ambush: a replica dies and is back before anybody misses it"),
        "last words": _Words(Kind.FAULT, "ambush: the primary's last words reach one backup only"),
        "unheard words": _Words(Kind.FAULT, "ambush: the primary's last words reach nobody"),
        "clock jump": _Words(Kind.FAULT, "a replica's wall clock is set to another time"),
        "clock drift": _Words(Kind.FAULT, "a replica's wall clock runs too fast or too slow"),
        "clock freeze": _Words(Kind.FAULT, "a replica's wall clock stands still"),
        "swizzle": _Words(Kind.FAULT, "replicas clog one after the other, and come free in another order"),
        "reset": _Words(Kind.FAULT, "connections are reset: what was on its way is lost"),
        "hand-over": _Words(Kind.FAULT, "whoever leads is asked to let another lead"),
        "restart loop": _Words(Kind.FAULT, "a replica begins to die again and again while it starts"),
        "late restart": _Words(Kind.FAULT, "a replica that died will be away for long"),
        "client crash": _Words(Kind.FAULT, "a client dies and starts anew: it knows nothing of what it asked"),
        "client returns": _Words(Kind.FAULT, "a client is back with the session that it had"),
        "odd requests": _Words(Kind.FAULT, "a client sends requests that make no sense"),
        "garbled bytes": _Words(Kind.FAULT, "a client sends bytes that are no message"),
        "input/output error": _Words(Kind.FAULT, "one of the next writes to some disk will fail"),
        "stale reads": _Words(Kind.FAULT, "for a while some disk shows what it has just replaced"),
        "ruined superblock": _Words(Kind.FAULT, "all copies of a superblock are ruined"),
        "ruined proofs": _Words(Kind.FAULT, "all proofs on a disk are ruined"),
        "ruined proof": _Words(Kind.FAULT, "both copies of one proof are ruined"),
        "ruined log": _Words(Kind.FAULT, "all records on a disk are ruined"),
        "ruined checkpoints": _Words(Kind.FAULT, "all checkpoints on a disk are ruined"),
        "ruined identity": _Words(Kind.FAULT, "both copies of an identity are ruined"),
        "forgotten flush": _Words(Kind.FAULT, "a disk begins to report flushes that it does not make"),
        "betrayal": _Words(Kind.FAULT, "whoever leads is alone with those whose disks will forget what they flush"),
    }
)
# These are told where they happen, with more detail.
_TOLD_ELSEWHERE = frozenset(
    {
        *("pause", "flip", "crash planned", "rot", "unreadable sectors", "misdirected write"),
        *("lost write", "short write", "lost file", "full disk", "stalled disk", "slow disk", "slow node"),
        "wiped disk",
        *("long pause", "clog", "isolation", *PARTITIONS),
    }
)


def tell_trace(event: Sequence[object]) -> Told | None:
    """Return the words for an event as traced: its name, the replica if any, and what else there is.

    None: it is told of elsewhere, where more is known.
    """
    name = str(event[0])
    if name in _TOLD_ELSEWHERE:
        return None
    if name == "recovered" and not any(value for _, value in cast("Iterable[tuple[str, int]]", event[2:])):
        return None  # A new disk: nothing was there to recover.
    if name in _OF_THE_WORLD:
        return Told(None, *_OF_THE_WORLD[name][:2])
    replica = event[1] if len(event) > 1 and isinstance(event[1], int) else None
    if name == "crash" and replica is not None:
        power = bool(event[2])
        how = "loses its power" if power else "dies (its machine runs on, so nothing written is lost)"
        return Told(replica, Kind.CRASH, f"R{replica} {how}")
    if replica is None:
        return Told(None, Kind.FAULT, name)
    if not all(isinstance(value, tuple) for value in event[2:]) and name not in _OF_PROCESSES:
        return Told(None, Kind.NOTE, f"{name}: {', '.join(f'R{number}' for number in event[1:])}")
    if name in _OF_PROCESSES:
        words = _OF_PROCESSES[name]
        return Told(replica, words.kind, f"R{replica} {words.text}")
    return _tell_core(replica, name, event[2:])


def _tell_core(replica: int, name: str, values: Iterable[object]) -> Told:
    fields: dict[str, int] = dict(cast("Iterable[tuple[str, int]]", values))
    view = fields.get("view")
    words = _OF_REPLICAS.get(name)
    if words is None:
        rest = ", ".join(f"{field} {value}" for field, value in fields.items())
        return Told(replica, Kind.NOTE, f"R{replica}: {name.replace('_', ' ')} {rest}".rstrip(), view=view)
    about = (words.about.format(**fields),) if words.about else ()
    text = f"R{replica} {words.text.format(**fields)}"
    if name == "recovered" and not fields["faults"]:
        text = text.partition(", and")[0]
    if name == "truncated" and fields["ops"] == 1:
        text = f"R{replica} drops the last op of its log: the new view does not have it"
    return Told(replica, words.kind, text, about, view)
