"""Planted bugs: checkpoints and divergence (PROTOCOL 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sim.mutants.mutant import Patch, mutant
from trio_pb.core import adverts, checkpoints, persistence, replica
from trio_pb.core.messages import CheckpointId, Probe
from trio_pb.core.ports import CheckpointBegin, Input, Output


@mutant(breaks="R-GC (9, T-29)", source="a lagging etcd follower that needs a snapshot for ever", expects=("INV-25",))
def free_one_more_interval(patch: Patch) -> None:
    """Records go up to the newest certificate, not the one before it."""
    collect: Callable[[checkpoints.Checkpoints], None] = vars(checkpoints.Checkpoints)["_collect"]

    def wrong(self: checkpoints.Checkpoints) -> None:
        insides = vars(self)
        previous = insides["_previous"]
        insides["_previous"] = self.state.certified
        collect(self)
        insides["_previous"] = previous

    patch.set(checkpoints.Checkpoints, "_collect", wrong)


@mutant(breaks="mismatch (9, T-22)", source="MySQL and Redis replicas that drift unnoticed", expects=("INV-20",))
def trust_own_state(patch: Patch) -> None:
    """Nobody compares its checkpoint with the certified one."""
    patch.set(checkpoints.Checkpoints, "_diverge", _ignore)


def _ignore(_self: checkpoints.Checkpoints, _op: int) -> None:
    return


@mutant(
    breaks="9: what certifies is one value (INV-21)",
    source="PBFT 4.3: messages counted by sequence number, not by digest",
    expects=("INV-21", "INV-20"),
)
def any_checkpoint_of_the_op_certifies(patch: Patch) -> None:
    """A checkpoint counts for its op, whatever state it has."""

    def wrong(self: adverts.Adverts[Any], replicas: Iterable[int], told: Any) -> int:
        return sum(1 for it in replicas if self.by(it, told.op) is not None)

    patch.set(adverts.Adverts, "count", wrong)


@mutant(
    breaks="certificates spread, the highest counts (9, T-40)",
    source="found by argument while the protocol was written: a primary that few can reach stalls",
    expects=("INV-33",),
    equivalent="every voter tells every other of its checkpoints, so whoever hears a majority counts for itself what "
    "others certified",
    pair="no-certificate-at-all",
)
def certificates_are_not_believed(patch: Patch) -> None:
    """A certificate that others tell of is not taken; only what was counted here."""
    note = checkpoints.Checkpoints.note_certified

    def wrong(self: checkpoints.Checkpoints, checkpoint: CheckpointId) -> None:
        told: adverts.Adverts[CheckpointId] = vars(self)["_adverts"]
        if told.count(self.state.configuration.voters, checkpoint) >= self.state.quorums.certify:
            note(self, checkpoint)

    patch.set(checkpoints.Checkpoints, "note_certified", wrong)


@mutant(
    breaks="7.5: a checkpoint that failed is written again",
    source="Ganesan et al., FAST'17: a space error after which nothing is tried again",
    expects=("INV-33", "INV-35"),
)
def checkpoint_is_given_up(patch: Patch) -> None:
    """A checkpoint that found no room is not tried again."""

    def wrong(self: checkpoints.Checkpoints) -> None:
        self.retry_timeout.stop()

    patch.set(checkpoints.Checkpoints, "on_retry_timeout", wrong)


@mutant(
    breaks="9: frozen right after op X",
    source="snapshots taken when there is time: replicas that cannot be compared",
    expects=("INV-21", "INV-20"),
)
def freeze_when_convenient(patch: Patch) -> None:
    """What is frozen is the state after all that the turn executes, under the name of the op that was due."""
    step = replica.Replica.step

    def wrong(self: replica.Replica, now_tick: int, inputs: Sequence[Input]) -> list[Output]:
        outputs = step(self, now_tick, inputs)
        late = [it for it in outputs if isinstance(it, CheckpointBegin)]
        return [it for it in outputs if not isinstance(it, CheckpointBegin)] + late

    patch.set(replica.Replica, "step", wrong)


@mutant(
    breaks="9: probes",
    source="TigerBeetle's state checks before it had checkpoints of all state",
    expects=("INV-20",),
    equivalent="a state that differs shows in the next checkpoint as well, only later: probes save time, not states",
    pair="trust-own-state",
)
def probes_are_not_compared(patch: Patch) -> None:
    """Nobody compares the digests of results."""

    def wrong(_self: checkpoints.Checkpoints, _replica: int, _probe: Probe) -> None:
        return

    patch.set(checkpoints.Checkpoints, "note_probe", wrong)


@mutant(
    breaks="9: untrusted is durable",
    source="found by argument while the protocol was written",
    expects=("INV-20", "INV-35", "INV-33"),
)
def distrust_is_forgotten(patch: Patch) -> None:
    """A replica that knows that its state is wrong does not say so on its disk, and goes on with it."""
    diverge: Callable[[checkpoints.Checkpoints, int], None] = vars(checkpoints.Checkpoints)["_diverge"]

    def wrong(self: checkpoints.Checkpoints, op: int) -> None:
        diverge(self, op)
        persistence.Persistence.change(vars(self)["_persistence"], untrusted=False)
        self.state.is_untrusted = False
        self.state.unfit.discard("untrusted")

    patch.set(checkpoints.Checkpoints, "_diverge", wrong)


@mutant(
    breaks="certificates (9, T-40)",
    source="found by argument while the protocol was written",
    expects=("INV-33",),
)
def no_certificate_at_all(patch: Patch) -> None:
    """Neither is a certificate believed, nor are the checkpoints of others counted."""
    certificates_are_not_believed(patch)
    note = checkpoints.Checkpoints.note_advert

    def wrong(self: checkpoints.Checkpoints, sender: int, checkpoint: CheckpointId) -> None:
        if sender == self.state.replica:
            note(self, sender, checkpoint)

    patch.set(checkpoints.Checkpoints, "note_advert", wrong)
