"""Planted bugs: looking after the disk (PROTOCOL 7.5)."""

from __future__ import annotations

import attrs

from sim.mutants.mutant import Patch, mutant
from trio_pb.core import leadership, persistence, upkeep
from trio_pb.core.ports import Scrubbed
from trio_pb.storage import scrub


@mutant(
    breaks="scrubbing (7.5)", source="Bairavasundaram et al., SIGMETRICS'07: latent sector errors", expects=("INV-35",)
)
def never_look(patch: Patch) -> None:
    """Nobody reads again what nobody asks for."""
    patch.set(scrub.Scrubber, "_go_round", _empty_round)


@mutant(breaks="scrubbing (7.5)", source="Alagappan et al., FAST'18", expects=("INV-35",))
def forget_what_rotted(patch: Patch) -> None:
    """Damage that scrubbing found is not repaired."""
    patch.set(upkeep.Upkeep, "on_scrubbed", _note_round)


def _empty_round(_: scrub.Scrubber) -> scrub.Round:
    yield Scrubbed()


def _note_round(self: upkeep.Upkeep, found: Scrubbed) -> None:
    vars(self)["_is_scrubbing"] = False
    self.state.counters["scrub_rounds"] += found.is_round_done


@mutant(
    breaks="7.5: the newest proof has two copies",
    source="a mirror that is not rebuilt",
    expects=("INV-35",),
)
def proof_stays_single(patch: Patch) -> None:
    """A damaged copy of the newest proof is not written again."""

    def wrong(_self: persistence.Persistence) -> None:
        return

    patch.set(persistence.Persistence, "renew_proof", wrong)


@mutant(
    breaks="7.5: the superblock has four copies",
    source="a mirror that is not rebuilt",
    expects=("INV-35",),
)
def superblock_stays_damaged(patch: Patch) -> None:
    """A damaged copy of the superblock is not written again."""
    scrubbed = upkeep.Upkeep.on_scrubbed

    def wrong(self: upkeep.Upkeep, found: Scrubbed) -> None:
        scrubbed(self, attrs.evolve(found, superblock=False))

    patch.set(upkeep.Upkeep, "on_scrubbed", wrong)


@mutant(
    breaks="7.5: a disk that has space again is used again",
    source="Elasticsearch indices that stay read-only after the disk was full",
    expects=("INV-33",),
)
def full_for_ever(patch: Patch) -> None:
    """A disk that was full once is not looked at again."""

    def wrong(self: upkeep.Upkeep) -> None:
        self.space_timeout.stop()

    patch.set(upkeep.Upkeep, "on_space_timeout", wrong)


@mutant(
    breaks="T_DISK, T_STALL (6.1, T-26, T-40)",
    source="an etcd leader with a dead disk keeps its heartbeats going",
    expects=("INV-33",),
)
def lead_with_a_dead_disk(patch: Patch) -> None:
    """A primary whose disk does not get on keeps on leading."""
    patch.set(leadership.Leadership, "_judge_disk", _no_judgement)
    patch.set(leadership.Leadership, "_judge_progress", _no_judgement)


def _no_judgement(_self: leadership.Leadership) -> None:
    return
