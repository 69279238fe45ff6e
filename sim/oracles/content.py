"""A shadow oracle of checkpoints: whatever a reader takes for a chunk is what the chunk's name says (2.3, 8.2).

Asked of a damaged disk when its replica starts, and once more at the end. A chunk that rotted and is taken all the
same is seen in one look; that somebody reads just that one, and that what comes of it can be told from what is
right, takes thousands of runs.
"""

from __future__ import annotations

import re

from sim.disk import FakeDisk
from sim.oracles.facts import DiskFacts, violate
from trio_pb.core.manifest import chunk_digest
from trio_pb.storage.packs import CHECKPOINT_FOLDER, Pack, scan_pack

__all__ = ["demand_content"]

_PACK = re.compile(rf"{CHECKPOINT_FOLDER}/(\d+)")


def demand_content(disk: FakeDisk, facts: DiskFacts) -> None:
    """Have every pack read as a start and a scrubber do, and compare what they take with its digest.

    Raises:
        Violation: chunk.
    """
    if not facts.is_damaged:
        return
    for file in disk.files(f"{CHECKPOINT_FOLDER}/"):
        name = _PACK.fullmatch(file)
        if name is None:
            continue
        nonce = Pack(int(name[1])).nonce(facts.superblock.incarnation)
        for offset, record in scan_pack(disk.contents(file, 0, disk.size_of(file)), nonce):
            if chunk_digest(record.chunk) != record.digest:
                violate("chunk", f"R{facts.replica}: {file} at {offset}: a chunk that decayed is taken for sound")
