"""A rule taken out of the shipped code is noticed: the oracles can fail.

`trio-pb sim mutants` hunts every planted bug; here some run over a few seeds that are known to catch them. When
the generator or the core changes, others may: they are found anew with
`python -m tests.sim.test_sensitivity NAME...`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest

from sim.experiment import Swarm, run_seed
from sim.mutants.catalogue import CATALOGUE
from sim.mutants.mutant import planted
from sim.mutants.repair import ask_for_what_is_kept
from sim.oracles.facts import Violation
from sim.profiles import DEFAULT_PROFILE
from sim.run import RunReport
from sim.scenario import Cluster
from sim.shape import Shape
from sim.stage import AnyMessage
from trio_pb.core.config import Limits
from trio_pb.core.messages import PrepareCopy, PrepareMessage

# Name of the mutant -> seeds, of which at least one must fail. Most show in nearly every run of the swarm;
SWARM: dict[str, tuple[int, ...]] = {
    "restarted-primary-resumes": (1, 2, 3, 4),
    "no-duplicate-check": (1, 2, 3, 4),
    "acknowledge-before-durable": (0, 1, 2),
    "small-replication-quorum": (0, 1, 2),
    "small-view-change-quorum": (2, 6, 11),
    "forget-acknowledgements-at-install": (1, 2, 3),
    "view-not-durable": (0, 1, 2),
    "lead-any-view": (2, 5, 7, 8, 9),
    "ask-one-by-one": (0, 2, 3),
    "lower-the-watermark": (11, 14, 22),
    "number-proofs-from-one": (0, 1, 2),
    "cut-at-damage": (11, 14, 29),
    "free-one-more-interval": (1, 2, 4),
    "adopt-at-once": (55,),
    "certify-alone": (1, 2, 5),
    "never-look": (18, 22),
    "forget-what-rotted": (60, 128, 242),
    "trust-own-state": (46,),
    "wait-for-everybody": (0, 2, 5),
    "pin-whoever-comes": (36, 144, 168),
    "reads-without-an-index": (1, 5, 34),
    "number-is-skipped": (31, 42, 69),
    "small-read-quorum": (1,),
    "round-before-the-read": (1,),
    "echoes-of-an-older-view": (8, 9),
    "half-is-a-majority": (21, 27, 29),
    "wish-stands": (5, 6, 7, 8),
    "whatever-is-found-counts": (0, 18, 23),
    "full-for-ever": (5, 49),
    "superblock-all-at-once": (1,),
    "slot-by-number": (1,),
    "leave-the-superblock": (4,),
    "refuse-what-is-ordered": (3,),
    "checkpoint-without-replies": (2,),
    "lead-with-a-dead-disk": (9,),
    "proof-stays-single": (17,),
    "seals-are-not-checked": (33,),
}
# these where primaries are led into ambushes, which one seed of the swarm in five is about.
AMBUSHED: dict[str, tuple[int, ...]] = {
    "longest-log-wins": (4, 6, 7),
    "unconfirmed-reads": (15, 26, 28),
    "recover-any-view": (3, 6),
    "read-tokens-are-used-again": (4,),
    "take-any-copy": (1, 3, 5),
}
# these where disks decay,
STORAGE: dict[str, tuple[int, ...]] = {
    "lower-checkpoint-unbinds": (2, 71, 87),
    "chunk-verified-nowhere": (2, 11, 16),
    "take-any-stored-chunk": (2, 11, 16),
}
# and these in profiles of their own: where nothing fails, and where clocks do.
CALM: dict[str, tuple[int, ...]] = {"one-wish-is-enough": (1, 2, 5)}
CLOCKS: dict[str, tuple[int, ...]] = {"own-clock-only": (1, 5, 14), "time-runs-back": (3, 5, 9)}
PROFILES = {
    **dict.fromkeys(AMBUSHED, "ambush"),
    **dict.fromkeys(STORAGE, "storage"),
    **dict.fromkeys(CALM, "calm"),
    **dict.fromkeys(CLOCKS, "clock"),
}
SEEDS = {**SWARM, **AMBUSHED, **STORAGE, **CALM, **CLOCKS}

SEARCHED = range(300)  # Where seeds are looked for.


def _experiment(name: str) -> Swarm:
    return Swarm(PROFILES.get(name, DEFAULT_PROFILE))


def _first_failure(name: str, seeds: Iterable[int]) -> RunReport | None:
    """The first run that fails with the rule `name` taken out."""
    with planted(CATALOGUE[name]):
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
    with planted(ask_for_what_is_kept), pytest.raises(Violation, match="copy storm"):
        _keep_a_gap_open()


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
    _search(sys.argv[1:] or list(CATALOGUE))
