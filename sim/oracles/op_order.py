"""The clients' history against one order of all operations (INV-22, 23, 24).

The cluster tells the op of every answer, so the order is known and the check is linear: an operation
stands at its op (a read just after it), that must not contradict real time, and the answer must be that
of the model executed up to there.
"""

from __future__ import annotations

from collections.abc import Sequence

from sim.oracles.facts import Facts, violate
from sim.oracles.reference import ReferenceModel
from sim.workload import History, Operation
from trio_pb.app.orders import COUNT_MAX, SCAN, ScanCustomers, decode_scan_page, encode_scan
from trio_pb.core.client_ports import Failure, OutcomeKind, Success

__all__ = ["check_history", "check_real_time"]

FORGOTTEN = "stale"  # Reason of a client that hears so: the window of its session excludes it.
SCAN_WHOLE = encode_scan(ScanCustomers(0, COUNT_MAX))


def check_history(facts: Facts, history: History, finished: ReferenceModel) -> None:
    """Check a finished run; `finished` has executed the whole committed log.

    Raises:
        Violation: INV-19, 22, 23 or 24.
    """
    check_real_time(history.operations)
    _check_effects(finished, history.operations)
    subject = finished.subject
    model = ReferenceModel(finished.sessions_max, subject)
    reads = [operation for operation in history.operations if operation.is_read and operation.succeeded]
    pages: dict[int, list[Operation]] = {}
    for read in sorted(reads, key=lambda operation: (operation.op or 0, operation.token)):
        op = read.op
        assert op is not None
        if op > facts.committed_op:
            violate("INV-22", f"{read.client} read a state after op {op}; only {facts.committed_op} ops committed")
        while model.op < op:
            model.execute(facts.prepares[facts.committed[model.op + 1]])
        if read.code == subject.scan_code:
            pages.setdefault(read.scan or read.token, []).append(read)
            _check_scan(model, pages[read.scan or read.token])
        else:
            _check_read(model, read)


def check_real_time(operations: Sequence[Operation]) -> None:
    """Nothing that began after an answer stands before it."""
    for operation in operations:
        op = operation.op
        if op is None:
            continue
        if operation.is_read:
            # A later page continues a scan at the op of its first page.
            if op < operation.floor and not operation.cursor:
                violate(
                    "INV-23", f"{operation.client} read the state after op {op}; op {operation.floor} was known before"
                )
        elif op <= operation.floor:
            violate(
                "INV-22", f"{operation.client}: a request begun after op {operation.floor} was answered took op {op}"
            )


def _answer(operation: Operation) -> bytes:
    assert isinstance(operation.outcome, Success)
    return operation.outcome.reply.result


def _check_read(model: ReferenceModel, read: Operation) -> None:
    ((_, expected, _, _),) = model.machine.query(model.op, 0, [(0, 0, read.code, read.body, b"")])
    if _answer(read) != expected:
        asked = f"read customer {read.customer}" if read.customer else f"asked query {read.code}"
        violate("INV-22", f"{read.client} {asked} at op {model.op}: not what the model has there")


def _check_scan(model: ReferenceModel, pages: list[Operation]) -> None:
    """Pages of one scan come in token order here: all of them stand at one op."""
    if len({page.op for page in pages}) != 1:
        violate("INV-24", f"{pages[0].client}: pages of one scan are of ops {[page.op for page in pages]}")
    last = pages[-1].outcome
    if not isinstance(last, Success) or last.reply.cursor:
        return
    found = [record for page in pages for record in decode_scan_page(_answer(page)).records]
    ((_, whole, _, _),) = model.machine.query(model.op, 0, [(0, 0, SCAN, SCAN_WHOLE, b"")])
    if tuple(found) != decode_scan_page(whole).records:
        violate("INV-24", f"{pages[0].client}: a scan of {len(pages)} pages is not the state at op {model.op}")


def _check_effects(model: ReferenceModel, operations: Sequence[Operation]) -> None:
    """A success was executed once, a certain failure never, an unknown outcome at most once.

    Requests of equal code and body cannot be told apart here; all of them together are counted.
    """
    asked: dict[tuple[int, bytes], list[Operation]] = {}
    for operation in operations:
        outcome = operation.outcome
        if isinstance(outcome, Failure) and outcome.reason == FORGOTTEN:
            violate("kept reply", f"{operation.client}: its request was executed, and nobody kept the reply (T-39)")
        if not operation.is_read:
            asked.setdefault((operation.code, operation.body), []).append(operation)
    for key, alike in asked.items():
        times = model.executed.get(key, 0)
        answered = sum(operation.succeeded for operation in alike)
        failed = [outcome for operation in alike if (outcome := _certain_failure(operation)) is not None]
        first = alike[0]
        if times > len(alike):
            violate("INV-18", f"{first.client}: what was asked {len(alike)} times was executed {times} times")
        if times < answered:
            violate(
                "INV-22",
                f"{first.client}: {answered} requests alike have receipts, the first for op {first.op};"
                f" {times} of them are in the log",
            )
        if times > len(alike) - len(failed):
            violate(
                "INV-22",
                f"{first.client}: a request reported as {failed[0].kind.name} ({failed[0].reason}) was executed",
            )
    for key in model.executed:
        if key not in asked:
            violate("INV-22", "a request was executed that no client sent")


def _certain_failure(operation: Operation) -> Failure | None:
    outcome = operation.outcome
    return outcome if isinstance(outcome, Failure) and outcome.kind is not OutcomeKind.UNKNOWN else None
