"""What a torture does to the files of a replica that is down, and whether they are whole again later.

One replica's testimony is defeated only by the loss of both copies of the newest proof together with the
record, or of a quorum of superblock copies (PROTOCOL 7.4). So a superblock copy is damaged only where all
four are intact, and a record never together with the proof of it, unless all proofs go: then the replica knows
that it has forgotten.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from trio_pb.driver.read_only_disk import ReadOnlyDisk
from trio_pb.errors import ConfigError, DataDirectoryError
from trio_pb.storage.damage import Finding, Verdict, find_damage
from trio_pb.storage.extents import PageState
from trio_pb.storage.inspect import Survey
from trio_pb.testbed.corruption import Kind, Where, overwrite, plan
from trio_pb.testbed.decay import decay

__all__ = ["rot", "ruin", "unrepaired"]

# What does not do any harm may stay on a disk until its file is freed.
HARMLESS = frozenset({Verdict.HEALED, Verdict.SPARED, Verdict.FORGOTTEN, Verdict.UNUSED})


def unrepaired(found: Survey) -> list[Finding]:
    """The damaged places that a replica still needs."""
    return [finding for finding in find_damage(found) if finding.verdict not in HARMLESS]


def rot(directory: Path, found: Survey, random: Random) -> str:
    """Damage one thing; return what, "" if there was nothing of the sort."""
    where = random.choice(list(Where))
    kind = random.choice(list(Kind))
    if where is Where.SUPERBLOCK and not _is_superblock_whole(found):
        where = Where.LOG
    copies = random.randint(1, 8) if where is Where.PROOF else 1
    disk = ReadOnlyDisk(directory)
    try:
        damages = plan(disk, found, kind, where, random, copies)
    except ConfigError:  # There is none of it yet.
        return ""
    for damage in damages:
        overwrite(directory, damage)
    first = damages[0]
    more = f" and {len(damages) - 1} more" if len(damages) > 1 else ""
    return f"SIGKILL; {kind} at {where}: {first.was}{more}, now {first.now}"


def ruin(directory: Path, found: Survey, random: Random) -> str:
    """Overwrite nearly everything; return what, "" if nothing can be damaged safely."""
    if not _is_superblock_whole(found):
        return ""
    try:
        did = decay(directory, random.randrange(1 << 32))
    except DataDirectoryError:
        return ""
    return (
        f"SIGKILL; random bytes over {did.records} records, {did.proof_copies} proof copies, "
        f"{did.superblock_copies} superblock copy, {did.chunks} chunk"
    )


def _is_superblock_whole(found: Survey) -> bool:
    """Whether all copies have the newest image: then one of them can be spared, whatever a crash left."""
    return all(copy.state is PageState.INTACT and copy.sequence == found.image_sequence for copy in found.superblock)
