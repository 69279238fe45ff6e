"""What must hold after a torture, and whether it does: each verdict says what and where it was broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import attrs

from sim.linearizability import Call, check
from sim.linearizability import Verdict as Linearizable
from sim.linearizability.models.orders import Orders as OrdersModel
from trio_pb.app.order_messages import CustomerRecord, RecentOrder
from trio_pb.core.messages import StatusReport
from trio_pb.storage.inspect import Survey
from trio_pb.testbed.torture.custody import Stopped
from trio_pb.testbed.torture.damage import unrepaired
from trio_pb.testbed.torture.deck import Kind
from trio_pb.testbed.torture.nemesis import Action, Calm
from trio_pb.testbed.torture.recording import Order, Orders

__all__ = [
    "Held",
    "Verdict",
    "compare_logs",
    "judge_duplicates",
    "judge_faults",
    "judge_history",
    "judge_logs",
    "judge_losses",
    "judge_processes",
    "judge_progress",
    "judge_receipts",
    "judge_states",
]

BUDGET_STEPS = 5_000_000  # A minute or two; ten minutes of history take some 200,000.
# The clocks of a majority are right, and the time of an order is within 5 s of theirs (PROTOCOL 5.1). The measure of
# a peer's clock is as good as the round trip was, and a process may stand still in the middle of it.
AHEAD_NS_MAX = 60_000_000_000
TOLD_MAX = 10  # Complaints of one kind that are listed.


@attrs.frozen
class Verdict:
    """One thing that must hold."""

    name: str
    what: str  # What was looked at, in words and numbers.
    complaints: tuple[str, ...]  # What is wrong, and where. Empty: it holds.

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return not self.complaints


@attrs.frozen(kw_only=True)
class Held:
    """What one replica answered in the end, asked by itself."""

    replica: int
    records: Sequence[CustomerRecord]
    recent: Sequence[RecentOrder]  # All that it keeps, in the order of their placing.
    orders: int  # So many were ever placed.


def judge_history(calls: Sequence[Call]) -> Verdict:
    """Is there one order of all calls that explains every answer?"""
    report = check(OrdersModel(), calls, BUDGET_STEPS)
    what = f"{report.calls} calls on {report.partitions} customers, {report.steps} steps"
    if report.counterexample is not None:
        return Verdict("linearizable", what, (report.counterexample.text,))
    undecided = report.verdict is not Linearizable.LINEARIZABLE
    return Verdict("linearizable", what, (report.text,) if undecided else ())


def judge_losses(orders: Orders, held: Sequence[Held], replicas: int) -> Verdict:
    """Is every acknowledged order on every replica?"""
    acknowledged = [order for order in orders.values() if order.receipt is not None]
    complaints = _not_asked(held, replicas)
    for it in held:
        there = {(order.customer_id, order.order_number) for order in it.recent}
        first_op = _first_op(it)
        for order in acknowledged:
            assert order.receipt is not None
            if (order.customer, order.number) not in there and order.receipt.op >= first_op:
                complaints.append(
                    f"replica {it.replica} has lost {_name(order)}, acknowledged at op {order.receipt.op}"
                )
        # Those that left the ring long ago are still counted, customer by customer.
        counts = {record.customer_id: record.orders for record in it.records}
        for customer, placed in Counter(order.customer for order in acknowledged).items():
            count = counts.get(customer, 0)
            if count < placed:
                complaints.append(
                    f"replica {it.replica} counts {count} orders of customer {customer}; {placed} were acknowledged"
                )
    return Verdict("nothing lost", f"{len(acknowledged)} acknowledged orders on {len(held)} replicas", _few(complaints))


def judge_duplicates(orders: Orders, held: Sequence[Held], replicas: int) -> Verdict:
    """Was every order placed at most once, and only what was asked for?"""
    complaints = _not_asked(held, replicas)
    definite = [order for order in orders.values() if order.refused and not order.is_unknown]
    may_be_placed = Counter(order.customer for order in orders.values()) - Counter(it.customer for it in definite)
    for it in held:
        times = Counter((order.customer_id, order.order_number) for order in it.recent)
        for (customer, number), count in times.items():
            order = orders.get((customer, number))
            if order is None:
                complaints.append(
                    f"replica {it.replica} has order {number} of customer {customer}, which nobody placed"
                )
            elif count > 1:
                complaints.append(f"replica {it.replica} has {_name(order)} {count} times")
            elif order.refused and not order.is_unknown:
                complaints.append(f"replica {it.replica} has {_name(order)}, which was rejected: {order.refused}")
        for record in it.records:
            most = may_be_placed[record.customer_id]
            if record.orders > most:
                complaints.append(
                    f"replica {it.replica} counts {record.orders} orders of customer {record.customer_id}; at most "
                    f"{most} can have been placed"
                )
        total = sum(record.orders for record in it.records)
        if total != it.orders:
            complaints.append(f"replica {it.replica} counts {total} orders by customer, and {it.orders} in all")
    what = f"{len(orders)} orders asked for, {held[0].orders if held else 0} placed"
    return Verdict("nothing duplicated", what, _few(complaints))


def judge_receipts(orders: Orders, held: Sequence[Held], replicas: int) -> Verdict:
    """Does every order stand where its receipt says, and is it what was ordered? Are times sane?"""
    complaints = _not_asked(held, replicas)
    receipts = 0
    for it in held:
        placed = {(order.customer_id, order.order_number): order for order in it.recent}
        for order in orders.values():
            found = placed.get((order.customer, order.number))
            if order.receipt is None or found is None:
                continue
            receipts += 1
            if found.op != order.receipt.op:
                complaints.append(
                    f"replica {it.replica} has {_name(order)} at op {found.op}; its receipt said {order.receipt.op}"
                )
            if found.laptop_type != order.laptop:
                complaints.append(
                    f"replica {it.replica} has {_name(order)} as {found.laptop_type!r}, not {order.laptop!r}"
                )
        complaints += _wrong_last_orders(it, orders)
    timed = sorted((it.op, it.timestamp) for order in orders.values() for it in order.dated)
    for (op, timestamp), (next_op, next_timestamp) in pairwise(timed):
        if timestamp >= next_timestamp:
            complaints.append(f"op {next_op} is not dated after op {op}: {next_timestamp} ns, {timestamp} ns")
    complaints += [
        f"{_name(order)}, op {dated.op}, is dated {dated.ahead_ns / 1e9:.0f} s ahead of its answer"
        for order in orders.values()
        for dated in order.dated
        if dated.ahead_ns > AHEAD_NS_MAX
    ]
    return Verdict("receipts honoured", f"{receipts} looked up, {len(timed)} dated", _few(complaints))


def _wrong_last_orders(held: Held, orders: Orders) -> Iterable[str]:
    """The record of each customer is that of the last of his orders."""
    last = {order.customer_id: order for order in held.recent}
    for record in held.records:
        order = last.get(record.customer_id)
        if order is not None and (order.order_number, order.op) != (record.last_order, record.op):
            yield (
                f"replica {held.replica}: the last order of customer {record.customer_id} is {order.order_number} at "
                f"op {order.op}, and his record says {record.last_order} at op {record.op}"
            )


def judge_states(statuses: Mapping[int, StatusReport], replicas: int) -> Verdict:
    """Do all replicas stand at one op, with one digest of their state?"""
    complaints: list[str] = []
    if len(statuses) != replicas:
        complaints.append(f"only replicas {', '.join(map(str, statuses))} answered")
    digests = {(status.state_op, status.state_digest.hex()) for status in statuses.values()}
    if len(digests) > 1:
        complaints += [
            f"replica {replica} is at op {status.state_op} with {status.state_digest.hex()[:16]}"
            for replica, status in statuses.items()
        ]
    complaints += [
        f"replica {replica} has diverged since its start"
        for replica, status in statuses.items()
        if dict(status.counters).get("diverged")
    ]
    where = min(digests)[0] if digests else 0
    return Verdict("states equal", f"{len(statuses)} digests at op {where}", tuple(complaints))


def judge_logs(surveys: Mapping[int, Survey]) -> Verdict:
    """Is all that a replica needs intact on its disk, and does every op stand alike in every log?"""
    complaints: list[str] = []
    for replica, found in surveys.items():
        if found.refusal:
            complaints.append(f"replica {replica} would not start again: {found.refusal}")
        complaints += [
            f"replica {replica}: {finding.file}, {finding.what}: {finding.verdict}" for finding in unrepaired(found)
        ]
    ops = {replica: found.ops for replica, found in surveys.items()}
    complaints += compare_logs(ops)
    records = sum(len(segment.records) for found in surveys.values() for segment in found.segments)
    compared = len({op for log in ops.values() for op in log})
    return Verdict("logs verify", f"{records} records, {compared} ops compared", _few(complaints))


def compare_logs(ops: Mapping[int, Mapping[int, bytes | None]]) -> list[str]:
    """Compare the checksums of ops, by replica: what of them differs or is unknown."""
    complaints: list[str] = []
    seen: dict[int, tuple[int, bytes]] = {}
    for replica, log in ops.items():
        for op, checksum in log.items():
            if checksum is None:
                complaints.append(f"replica {replica}: op {op} is unidentified")
            elif seen.setdefault(op, (replica, checksum))[1] != checksum:
                complaints.append(f"op {op} differs in the logs of replicas {seen[op][0]} and {replica}")
    return complaints


def judge_progress(calms: Sequence[Calm]) -> Verdict:
    """Did the cluster take orders and become whole after every round?"""
    complaints = [
        f"round {calm.round}, healed at {calm.begin:.1f} s: "
        + ("no order was acknowledged in time" if calm.progress is None else f"not whole in time: {calm.told}")
        for calm in calms
        if calm.progress is None or calm.whole is None
    ]
    longest = max((calm.progress or 0.0 for calm in calms), default=0.0)
    whole = max((calm.whole or 0.0 for calm in calms), default=0.0)
    what = f"{len(calms)} rounds; orders again after {longest:.1f} s, whole after {whole:.1f} s at the latest"
    return Verdict("recovers", what, tuple(complaints))


def judge_processes(stopped: Sequence[Stopped], errors: Sequence[str]) -> Verdict:
    """Did every replica end only when it was made to, and say nothing that a sound program never says?"""
    complaints: list[str] = []
    for it in stopped:
        how = "hung" if it.code is None else f"stopped with exit code {it.code}"
        complaints.append(f"replica {it.replica} {how} at {it.at:.1f} s: {it.told}")
    return Verdict("no replica fails", "none ended unasked, no traceback", (*complaints, *errors))


def judge_faults(actions: Sequence[Action], needed: int) -> Verdict:
    """Did every kind of fault happen often enough?"""
    counts = Counter(action.kind for action in actions if action.is_done)
    complaints = [f"{kind}: {counts[kind]} times, not {needed}" for kind in Kind if counts[kind] < needed]
    least = min(counts[kind] for kind in Kind)
    return Verdict(
        "every fault used",
        f"{counts.total()} faults of {len(Kind)} kinds, each {least} times or more",
        tuple(complaints),
    )


def _not_asked(held: Sequence[Held], replicas: int) -> list[str]:
    asked = {it.replica for it in held}
    return [f"replica {replica} could not be asked" for replica in range(replicas) if replica not in asked]


def _first_op(held: Held) -> int:
    """From here on the list of recent orders is complete."""
    if len(held.recent) == held.orders:
        return 0
    return held.recent[0].op + 1 if held.recent else 0


def _name(order: Order) -> str:
    return f"order {order.number} of customer {order.customer}"


def _few(complaints: Sequence[str]) -> tuple[str, ...]:
    if len(complaints) <= TOLD_MAX:
        return tuple(complaints)
    return (*complaints[:TOLD_MAX], f"and {len(complaints) - TOLD_MAX} more")
