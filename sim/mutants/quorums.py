"""Planted bugs: quorums that do not meet (PROTOCOL 2.5)."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from sim.mutants.mutant import Patch, mutant
from trio_pb.core import replica
from trio_pb.core.normal import Normal
from trio_pb.core.prepare import PrepareId
from trio_pb.core.quorum import Quorums, quorums_of


def shrink(patch: Patch, name: str, by: int = 1) -> None:
    """Let one quorum of the table be too small, where that leaves any of it."""

    def table(voters: int) -> Quorums:
        right = quorums_of(voters)
        smaller: int = max(1, getattr(right, name) - by)
        return attrs.evolve(right, **{name: smaller})

    patch.set(replica, "quorums_of", table)


@mutant(breaks="R-COMMIT (5.3), R-QUORUM", source="a slip of many first solutions", expects=("INV-11",))
def small_replication_quorum(patch: Patch) -> None:
    """One acknowledgement too few commits."""
    shrink(patch, "replication")


@mutant(
    breaks="R-ENTER, R-QUORUM (6.2, 6.4)",
    source="VR Revisited 4.2: f instead of f + 1",
    expects=("new log", "INV-12", "INV-4"),
)
def small_view_change_quorum(patch: Patch) -> None:
    """One voter too few begins a view."""
    shrink(patch, "view_change")


@mutant(breaks="q_cert (2.5, 9)", source="PBFT 4.3: a stable checkpoint needs a quorum", expects=("INV-21",))
def certify_alone(patch: Patch) -> None:
    """One word too few certifies a checkpoint."""
    shrink(patch, "certify")


@mutant(
    breaks="R-COMMIT (5.3, T-24)",
    source="Jepsen, TigerBeetle 0.16: one slow node holds up everybody",
    expects=("INV-33",),
)
def wait_for_everybody(patch: Patch) -> None:
    """Nothing commits before every voter holds it."""

    def mutant(voters: int) -> Quorums:
        return attrs.evolve(quorums_of(voters), replication=voters)

    patch.set(replica, "quorums_of", mutant)


@mutant(
    breaks="R-QUORUM (2.5)",
    source="n / 2 for n / 2 + 1: the majority of an even number",
    expects=("new log", "INV-12", "INV-5", "INV-11"),
)
def half_is_a_majority(patch: Patch) -> None:
    """In clusters of even size, half of the voters begin a view."""

    def table(voters: int) -> Quorums:
        right = quorums_of(voters)
        return attrs.evolve(right, view_change=(voters + 1) // 2)

    patch.set(replica, "quorums_of", table)


@mutant(
    breaks="q_nack (6.4, T-15)",
    source="Alagappan et al., FAST'18; TigerBeetle pull request 1530",
    expects=("new log", "INV-12"),
)
def small_denial_quorum(patch: Patch) -> None:
    """One denial too few truncates."""
    shrink(patch, "nack")


@mutant(
    breaks="q_read (10.1 c)",
    source="Raft dissertation 6.4: a round that no majority echoed",
    expects=("INV-23", "INV-22"),
)
def small_read_quorum(patch: Patch) -> None:
    """One echo too few confirms a read."""
    shrink(patch, "read")


@mutant(
    breaks="R-COMMIT (5.3, T-30)",
    source="a counter of acknowledgements in place of a set of senders",
    expects=("INV-11",),
)
def repeated_acknowledgements_count(patch: Patch) -> None:
    """Every acknowledgement counts, those that one backup repeats as well."""
    note: Callable[[Normal, int, PrepareId], None] = vars(Normal)["_note_acked"]

    def counting(self: Normal, sender: int, acked: PrepareId) -> None:
        known = self.acked_ops.get(sender, 0)
        note(self, sender, acked)
        if known and self.acked_ops.get(sender) == known == acked.op:
            silent = [it for it in self.state.voters_but_self if self.acked_ops.get(it, 0) < known]
            self.acked_ops.update(dict.fromkeys(silent[:1], known))

    patch.set(Normal, "_note_acked", counting)
