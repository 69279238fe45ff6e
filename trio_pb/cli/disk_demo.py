"""`trio-pb demo --faults disk`: what it prints."""

from __future__ import annotations

import sys

import attrs

from trio_pb.cli.output import new_table, print_json, print_table
from trio_pb.testbed.disk_demo import REPAIRS, DiskDemoResult

__all__ = ["print_disk_demo"]


def print_disk_demo(result: DiskDemoResult, *, json: bool) -> None:
    """Tell what was damaged, what was repaired, and what each replica holds."""
    if json:
        print_json(_fields(result))
        return
    print()
    table = new_table("replica", "role", "position", "customers", "orders", "lost", "twice", "state digest")
    for status, proof in zip(result.statuses, result.proofs, strict=True):
        table.add_row(
            str(status.replica),
            ("primary" if status.is_primary else "backup") + (", damaged" if status.replica == result.damaged else ""),
            str(status.state_op),
            str(proof.customers),
            str(proof.orders),
            str(proof.lost),
            str(proof.duplicated),
            status.state_digest.hex()[:16],
        )
    print_table(table)
    print()
    table = new_table("count", f"what replica {result.damaged} found and repaired, by itself")
    table.columns[0].justify = "right"
    for name, text in REPAIRS.items():
        table.add_row(str(result.repairs[name]), text)
    print_table(table)
    print()
    if result.ok:
        print(
            f"All {result.acked} acknowledged orders are on all {len(result.proofs)} replicas exactly once, their "
            f"states are equal, and replica {result.damaged} was whole again after {result.repair_seconds:.1f} s."
        )
        return
    print("trio-pb: the demo FAILED:", file=sys.stderr)
    for text in _complaints(result):
        print(f"  {text}", file=sys.stderr)


def _fields(result: DiskDemoResult) -> dict[str, object]:
    return {
        "ok": result.ok,
        "acked": result.acked,
        "acked_while_down": result.acked_while_down,
        "acked_after": result.acked_after,
        "lost": result.lost,
        "duplicated": result.duplicated,
        "digests_equal": result.digests_equal,
        "damaged_replica": result.damaged,
        "damage": attrs.asdict(result.decay),
        "repair_s": round(result.repair_seconds, 3),
        "repairs": result.repairs,
        "replicas": [
            {
                "replica": status.replica,
                "is_primary": status.is_primary,
                "op": status.state_op,
                "state_digest": status.state_digest.hex(),
                "orders": proof.orders,
                "lost": proof.lost,
                "duplicated": proof.duplicated,
            }
            for status, proof in zip(result.statuses, result.proofs, strict=True)
        ],
    }


def _complaints(result: DiskDemoResult) -> list[str]:
    found: list[str] = []
    if result.acked != result.expected:
        found.append(f"{result.acked} of {result.expected} orders were acknowledged")
    if not result.acked_while_down:
        found.append("no order was acknowledged while the replica was down")
    if not result.acked_after:
        found.append("no order was acknowledged after it was back")
    found += [
        f"replica {proof.replica}: {proof}"
        for proof in result.proofs
        if proof.lost or proof.duplicated or proof.last_orders_wrong or proof.misplaced
    ]
    if not result.digests_equal:
        found.append("the state digests differ")
    if not result.is_repaired:
        found.append(f"not all of the damage was found and repaired: {result.repairs}")
    return found
