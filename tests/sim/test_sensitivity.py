"""A rule taken out of the shipped code is noticed: the oracles can fail.

Each mutant runs over a few seeds that are known to catch it. When the generator or the core changes,
other seeds may catch it: they are found anew with `python -m tests.sim.test_sensitivity NAME...`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest

from sim.experiment import Swarm, run_seed
from sim.oracles.facts import Violation
from sim.profiles import DEFAULT_PROFILE
from sim.run import RunReport
from sim.scenario import Cluster
from sim.shape import Shape
from sim.stage import AnyMessage
from tests.sim.mutants import MUTANTS
from trio_pb.core.config import Limits
from trio_pb.core.messages import PrepareCopy, PrepareMessage

# Name of the mutant -> seeds, of which at least one must fail. Most show in nearly every run of the swarm;
SWARM: dict[str, tuple[int, ...]] = {
    "ex_primary": (1, 2, 3, 4),
    "duplicate checks": (1, 2, 3, 4),
    "acknowledge when durable": (0, 1, 2),
    "replication quorum": (0, 1, 2),
    "view change quorum": (2, 6, 11),
    "ack_floor": (1, 2, 3),
    "durable view": (0, 1, 2),
    "inherited is not committed": (2, 5, 7, 8, 9),
    "repair budget": (0, 2, 3),
    "watermark stays": (11, 14, 22),
    "proof numbers": (0, 1, 2),
    "damage is no torn tail": (11, 14, 29),
    "collect below the previous": (1, 2, 4),
    "image before state": (55,),
    "certificate quorum": (1, 2, 5),
    "scrubbing": (60, 77, 106),
    "scrubbing repairs": (60, 128, 242),
    "divergence": (46,),
    "progress of a quorum": (0, 2, 5),
    "incarnation pinned": (36, 144, 168),
    "read index": (1, 5, 34),
}
# these where primaries are led into ambushes, which one seed of the swarm in five is about.
AMBUSHED: dict[str, tuple[int, ...]] = {
    "log_view first": (4, 5, 10, 14, 16),
    "read round": (28, 35, 40, 66),
    "view filter": (3, 11, 13),
}
# and these in profiles of their own: where nothing fails, where clocks do,
CALM: dict[str, tuple[int, ...]] = {"wish quorum": (1, 2, 5)}
CLOCKS: dict[str, tuple[int, ...]] = {"median clock": (1, 5, 14), "rising time": (3, 5, 9)}
# and where more is damaged than the fault model has.
BEYOND: dict[str, tuple[int, ...]] = {"deny only the unacknowledged": (23, 105), "proof slot": (15,)}
PROFILES = {
    **dict.fromkeys(AMBUSHED, "ambush"),
    **dict.fromkeys(CALM, "calm"),
    **dict.fromkeys(CLOCKS, "clock"),
    **dict.fromkeys(BEYOND, "beyond"),
}
SEEDS = {**SWARM, **AMBUSHED, **CALM, **CLOCKS, **BEYOND}

# These need a script: chance rarely keeps a gap open for long.
SCRIPTED = {"kept is not asked for"}

# What the swarm does not catch, and why.
UNCAUGHT = {
    "proof_base": "without amnesia an older proof is of an older log_view, and void by that",
    "superblock healed": "two crashes must tear two pairs of one image; the tests of the superblock have them",
    "chunk verified": "the store verifies each chunk again; a scenario counts what is refused",
    "proof written anew": "a heartbeat must come between the start of a boot and its first proof",
    "round after the read": "the round must be older than a view change that the read did not see",
    "copy vouched for": "a copy asked for by name in one view must come from the primary of another",
}

SEARCHED = range(300)  # Where seeds are looked for.


def _experiment(name: str) -> Swarm:
    return Swarm(PROFILES.get(name, DEFAULT_PROFILE))


def _first_failure(name: str, seeds: Iterable[int]) -> RunReport | None:
    """The first run that fails with the rule `name` taken out."""
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name](patch)
        runs = (run_seed(seed, _experiment(name)) for seed in seeds)
        return next((run for run in runs if run.failure is not None), None)


@pytest.mark.parametrize(("name", "seeds"), sorted(SEEDS.items()))
def test_mutant_is_caught(name: str, seeds: tuple[int, ...]) -> None:
    """Some seed fails with the rule taken out, and passes with it in place."""
    failed = _first_failure(name, seeds)
    assert failed is not None
    again = run_seed(failed.seed, _experiment(name))
    assert again.failure is None, again.failure


def _op_of(message: AnyMessage) -> int | None:
    return message.prepare.op if isinstance(message, PrepareMessage | PrepareCopy) else None


def _keep_a_gap_open() -> None:
    """A backup misses one prepare for a while, and gets those above it."""
    c = Cluster(shape=Shape(limits=Limits(batch_requests_max=1)))
    backup = c.names[1]
    c.order("laptop first").expect_reply()
    missed = c.replica(backup).head + 1
    for kind in ("PrepareMessage", "PrepareCopy"):
        c.lose(kind, dst=backup, when=lambda _, message: _op_of(message) == missed)
    c.orders(10)
    c.run_for(15)
    assert c.replica(backup).head == missed - 1
    c.heal()
    c.expect_same_state()


def test_copy_storm_is_caught() -> None:
    """A backup that asks again and again for what waits above a gap is noticed; the shipped one does not."""
    _keep_a_gap_open()
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS["kept is not asked for"](patch)
        with pytest.raises(Violation, match="copy storm"):
            _keep_a_gap_open()


def test_every_mutant_is_run() -> None:
    """A mutant that no seed catches is named here, with the reason."""
    assert set(MUTANTS) == set(SEEDS) | SCRIPTED | set(UNCAUGHT)


def _search(names: Iterable[str]) -> None:
    """Print seeds that catch each mutant, with the rule that fails."""
    for name in names:
        found: list[str] = []
        seeds = iter(SEARCHED)
        while len(found) < 5 and (failed := _first_failure(name, seeds)) is not None:
            assert failed.failure is not None
            found.append(f"{failed.seed} ({failed.failure.rule})")
        print(f"{name}: {', '.join(found) or 'none'}", flush=True)


if __name__ == "__main__":
    _search(sys.argv[1:] or list(MUTANTS))
