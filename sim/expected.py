"""What a sweep of a profile must have met, by the names under which runs count it.

A fault that is drawn and never happens proves nothing. Each family of faults names what its kinds are
counted as, and what they bring about in the protocol; a sweep of a few hundred seeds meets all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sim.ambushes import AMBUSHES
from sim.ancient_messages import ANCIENT_MESSAGES
from sim.beyond import RUINS
from sim.client_faults import CLIENT_FAULTS
from sim.clocks import CLOCKS
from sim.congestion import CONGESTION
from sim.cores import CORES
from sim.disk_faults import DISK_FAULTS
from sim.last_wounds import LAST_RESTARTS, LAST_WOUNDS
from sim.minimal_quorums import MINIMAL_QUORUMS
from sim.old_positions import OLD_POSITIONS
from sim.partitions import PARTITIONS
from sim.processes import PROCESSES
from sim.profiles import FAMILIES, Family
from sim.rotten_witnesses import ROTTEN_WITNESSES
from sim.unproven_checkpoints import UNPROVEN_CHECKPOINTS
from trio_pb.core.marks import Mark

__all__ = ["expected_of", "is_outside"]

ALWAYS = ("became_primary", "ex_primary")
ISOLATED = ("isolation", "messages blocked", "abdicated")
FAULTS: dict[Family, tuple[str, ...]] = {
    Family.NETWORK: (
        *("messages lost", "messages duplicated", "messages spiked", "messages blocked", "messages corrupted"),
        *("messages clogged", "messages overflowed", "messages reset", "messages cut short", *PARTITIONS, *CONGESTION),
    ),
    Family.PROCESS: (*PROCESSES, *LAST_RESTARTS, "fatal identity_refused"),
    Family.CLIENT: CLIENT_FAULTS,
    Family.CLOCK: CLOCKS,
    Family.DISK: (*DISK_FAULTS, *LAST_WOUNDS, *ROTTEN_WITNESSES, *UNPROVEN_CHECKPOINTS),
    Family.MEMORY: ("flip", "diverged"),
    Family.AMBUSH: AMBUSHES,
    Family.ADVERSARY: (*MINIMAL_QUORUMS, *ANCIENT_MESSAGES, *OLD_POSITIONS),
}
# Some need two families at once, or are rare: a sweep of everything has them.
RARE = ("newer release", "abdicated", "view_timeout", "truncated", "suffixes dropped", "repaired")
# Of the profile that goes beyond the fault model, where no core is demanded.
BEYOND = (
    *RUINS,
    *("disk lost", "fatal unrecoverable", "fatal contradiction", "testimony lost", "promise broken"),
    *("all answered", "answers withheld"),
)
# No run takes these branches, and why.
OUTSIDE: Mapping[Mark, str] = MappingProxyType(
    {
        # Of a minority of the disks an op may be gone; all others hold it or deny it, which always decides (6.4).
        Mark.ENDS_BELOW_COMMITTED: "whoever holds the newest log would have lost what it acknowledged (6.4)",
        Mark.BLOCKED: "undecided when everybody spoke: beyond the fault model, where runs of that profile take it",
        Mark.FORKED_HEAD: "two logs of one view are impossible (INV-7) unless its primary's disk went back in time",
        Mark.DIVERGED_BY_PROBE: "a flip shows in no answer, or clients would hear wrong ones: a scenario has it",
    }
)


def is_outside(mark: Mark, profile: str) -> bool:
    """Whether no run of a profile can take this branch."""
    return mark in OUTSIDE and not (profile == "beyond" and mark in (Mark.BLOCKED, Mark.ENDS_BELOW_COMMITTED))


def expected_of(profile: str) -> tuple[str, ...]:
    """Every event that some hundred seeds of a profile bring about."""
    families = FAMILIES[profile]
    faults = tuple(event for family in Family if family in families for event in FAULTS.get(family, ()))
    rest = RARE if len(families) == len(Family) else () if families else ISOLATED
    if profile == "beyond":
        return (*faults, *ALWAYS, *BEYOND)
    cores = CORES if families else ()
    return (*faults, *ALWAYS, *cores, *rest)
