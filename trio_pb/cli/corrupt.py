"""`trio-pb corrupt`: damage a data directory as a device would, to see what a replica does about it."""

from __future__ import annotations

from random import Random

from trio_pb.cli.offline import Directory, holding_lock
from trio_pb.cli.output import Flag, new_table, print_json, print_table
from trio_pb.driver.read_only_disk import ReadOnlyDisk
from trio_pb.errors import ConfigError
from trio_pb.storage import proofs, superblock
from trio_pb.storage.disk import run
from trio_pb.storage.identity import read_identity
from trio_pb.storage.inspect import survey
from trio_pb.testbed.corruption import Damage, Kind, Where, overwrite, plan

__all__ = ["corrupt"]


def corrupt(
    directory: Directory,
    /,
    *,
    kind: Kind,
    where: Where,
    seed: int,
    copies: int = 1,
    force: Flag = False,
    json: Flag = False,
) -> None:
    """Damage a data directory on purpose, for tests.

    It is damaged as a device would. The same seed does the same to the same bytes. What was damaged is printed;
    nothing else is touched, the identity never. Look at the outcome with trio-pb log verify.

    Args:
        directory: Data directory of a replica that is stopped.
        kind: rot: random bytes over a sector. torn: the last write reached only some of its sectors. misdirect:
            intact bytes over another place. lost-write: the last write never happened.
        where: log: a record. proof, superblock: one copy of it. chunk: a part of a checkpoint.
        seed: Decides which sector, record or copy.
        copies: How many copies of the proofs, newest first, or of the superblock; 8 or 4 are all of them.
        force: Also while a replica runs on it.
        json: Print one JSON object.
    """
    if seed < 0:
        raise ConfigError(f"--seed {seed}: must not be negative")
    copies_max = {Where.PROOF: proofs.SLOTS * proofs.COPIES, Where.SUPERBLOCK: superblock.COPIES}.get(where, 1)
    if not 1 <= copies <= copies_max:
        raise ConfigError(f"--copies {copies}: must be 1 to {copies_max} for --where {where}")
    disk = ReadOnlyDisk(directory)
    run(disk, read_identity())  # First: nothing is touched, not even the lock, unless the directory is ours.
    with holding_lock(directory, force=force):
        found = run(disk, survey())
        damages = plan(disk, found, kind, where, Random(seed), copies)
        for damage in damages:
            overwrite(directory, damage)
    if json:
        print_json({"directory": str(directory), "damaged": [_fields(damage) for damage in damages]})
        return
    table = new_table("file", "offset", "bytes", "was", "now")
    for column in (1, 2):
        table.columns[column].justify = "right"
    for damage in damages:
        table.add_row(damage.file, str(damage.offset), str(len(damage.data)), damage.was, damage.now)
    print_table(table)


def _fields(damage: Damage) -> dict[str, object]:
    return {
        "file": damage.file,
        "offset": damage.offset,
        "size": len(damage.data),
        "was": damage.was,
        "now": damage.now,
    }
