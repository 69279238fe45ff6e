"""`trio-pb bench storage` at a small size: everything works, everything is told, nothing stays behind."""

from __future__ import annotations

import json
import os
from contextlib import redirect_stdout
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from trio_pb.app.buckets import leaf_of
from trio_pb.cli.main import call
from trio_pb.core.config import Limits
from trio_pb.testbed.bench.children import BenchError, Tell, in_process
from trio_pb.testbed.bench.figures import Target, percentile
from trio_pb.testbed.bench.storage import Plan

CUSTOMERS = 1000
INTERVAL_OPS = 64

Found: TypeAlias = tuple[dict[str, Any], Path]  # What a run says as JSON, and where it ran.


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What one small run says, and the directory in which it ran."""
    directory = tmp_path_factory.mktemp("bench")
    said = StringIO()
    with redirect_stdout(said):
        assert call(["bench", "storage", "--customers", str(CUSTOMERS), "--directory", str(directory), "--json"]) == 0
    return json.loads(said.getvalue()), directory


def test_everything_is_measured(found: Found) -> None:
    """Each question has its figures, of a run of the size that was asked for."""
    said, _ = found
    assert said["customers"] == CUSTOMERS
    assert said["interval_ops"] == INTERVAL_OPS
    assert set(said["machine"]) == {"version", "python", "system", "cores", "load_before", "load_after"}
    assert said["flush"]["p99_ms"] >= said["flush"]["p50_ms"] > 0
    assert said["load"]["orders"] >= CUSTOMERS
    assert said["load"]["checkpoint_bytes"] > 0
    assert said["memory"]["peak_mib"] >= said["memory"]["loaded_mib"] > 0


def test_restart_replays_the_whole_log(found: Found) -> None:
    """Four intervals of log lie above the checkpoint; the only checkpoint begun is the last that falls due."""
    restart = found[0]["restart"]
    assert restart["ops"] == found[0]["load"]["log_ops"] == 4 * INTERVAL_OPS
    assert restart["checkpoints"] in (0, 1)  # It falls due with the head itself.
    assert restart["ready_seconds"] > restart["open_seconds"] > 0


def test_unchanged_chunks_are_not_written_again(found: Found) -> None:
    """After a few customers ordered, a checkpoint writes a part of what a new one does."""
    service = found[0]["service"]
    for case in ("uniform", "clustered"):
        figures = service[case]
        assert figures["touched"] == CUSTOMERS // 100
        assert 0 < figures["ratio"] < 0.5


def test_a_transfer_moves_what_is_lacking(found: Found) -> None:
    """Of many chunks the receiver lacked a hundredth, and only these and the manifest came."""
    transfer = found[0]["transfer"]
    assert transfer["lacking"] == (transfer["chunks"] + 49) // 100
    assert 0 < transfer["moved_bytes"] < transfer["full_bytes"] / 2


def test_all_steps_of_the_loop_are_timed(found: Found) -> None:
    """Of a checkpoint, and of an installation."""
    checkpoint, install = (found[0][name]["steps"] for name in ("service", "transfer"))
    assert {"freeze", "sort", "encode", "manifest", "loop"} <= set(checkpoint)
    assert checkpoint["freeze"]["count"] == 3
    assert set(install) - {"collection"} == {"decode", "adopt", "apply_after_adopt"}


def test_targets_are_told(found: Found) -> None:
    """Five of them; whether one is reached follows from its figure, and is no failure."""
    targets: list[dict[str, Any]] = found[0]["targets"]
    assert len(targets) == 5
    for target in targets:
        assert target["reached"] == (target["value"] < target["limit"])


def test_nothing_stays_behind(found: Found) -> None:
    """The directories of a million customers are not left to whoever measured."""
    _, directory = found
    assert list(directory.iterdir()) == []


def test_too_few_customers(capsys: pytest.CaptureFixture[str]) -> None:
    """A hundredth of them must be somebody."""
    assert call(["bench", "storage", "--customers", "999"]) == 2
    assert capsys.readouterr().err == "trio-pb: --customers 999: must be at least 1000\n"


@pytest.mark.parametrize("customers", [1000, 99_999, 100_000, 1_000_000, 1_048_576])
def test_the_load_orders_for_every_customer(customers: int) -> None:
    """It ends at a checkpoint, and no batch needs more clients than there are, nor one customer twice."""
    plan = Plan(customers)
    batches = list(plan.load(head=0))
    assert len(batches) % plan.limits.checkpoint_interval_ops == 0
    assert set(chain.from_iterable(batches)) == set(range(customers))
    assert all(0 < len(batch) <= 256 for batch in batches)


def test_a_large_run_uses_the_limits_that_ship() -> None:
    """What is measured at full size is what replicas do."""
    assert Plan(100_000).limits == Limits()


def test_clustered_customers_share_buckets() -> None:
    """As many as the uniform ones, in a hundredth of the buckets."""
    plan = Plan(20_000)
    assert len(set(plan.uniform)) == len(plan.uniform) == 200
    assert len({leaf_of(customer)[0] for customer in plan.uniform}) > 150
    assert len({leaf_of(customer)[0] for customer in plan.clustered}) <= 41


def test_percentiles() -> None:
    """The smallest figure that so large a share does not exceed."""
    assert percentile([], 0.5) == 0
    assert percentile([1, 2, 3, 4], 0.5) == 2
    assert percentile([1, 2, 3, 4], 0.51) == 3
    assert percentile([1, 2, 3, 4], 0.99) == 4
    assert not Target("", 10, 10, "ms").reached


def break_down(tell: Tell) -> None:
    """A phase that fails."""
    tell(1, 2)
    raise ValueError("no such luck")


def test_a_phase_that_fails_is_told() -> None:
    """Its words arrive, after what it told before."""
    told: list[tuple[int, int]] = []
    with pytest.raises(BenchError, match="break_down: ValueError: no such luck"):
        in_process(break_down, lambda done, total: told.append((done, total)))
    assert told == [(1, 2)]


def vanish(tell: Tell) -> None:
    """A phase whose process ends in the middle."""
    del tell
    os._exit(3)


def test_a_phase_that_dies_is_told() -> None:
    """Nobody waits for a process that is no more."""
    with pytest.raises(BenchError, match="vanish: its process died, exit code 3"):
        in_process(vanish, lambda _done, _total: None)
