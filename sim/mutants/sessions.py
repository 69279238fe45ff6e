"""Planted bugs: sessions and admission (PROTOCOL 5.4)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from sim.mutants.mutant import Patch, mutant
from trio_pb.core import admission, execution, normal, reads, sessions
from trio_pb.core.manifest import KeptReply, SessionRow
from trio_pb.core.messages import RejectCode, Request
from trio_pb.core.ports import ApplyItem
from trio_pb.core.prepare import OrderedRequest, Prepare


@mutant(
    breaks="5.4 (T-20)",
    source="VR Revisited 4.1",
    expects=("INV-18",),
    equivalent="what is ordered twice is not executed a second time: whoever executes asks its table",
    pair="no-duplicate-check",
)
def no_duplicate_check_at_admission(patch: Patch) -> None:
    """The primary queues every request, in flight or applied."""

    def wrong(self: admission.Admission, connection: int, request: Request, _ordered: int) -> None:
        insides = vars(self)
        insides["_execution"].waiting[request.client, request.number] = connection
        self.queue.append(
            OrderedRequest(request.client, request.session, request.number, request.code, request.body)
        )  # fmt: skip
        self.queue_bytes += len(request.body) + admission.REQUEST_OVERHEAD

    patch.set(admission.Admission, "_on_duplicate", wrong)


@mutant(
    breaks="5.4 (T-20)",
    source="Raft dissertation 6.3",
    expects=("INV-18",),
    equivalent="a primary orders no number twice that it knows, and knows those of its log and of its table",
    pair="no-duplicate-check",
)
def no_duplicate_check_at_apply(patch: Patch) -> None:
    """An op executes whatever numbers it holds."""
    plan_one: Callable[..., object] = vars(sessions.SessionTable)["_plan_one"]

    def wrong(
        self: sessions.SessionTable,
        op: int,
        timestamp: int,
        index: int,
        request: OrderedRequest,
        items: list[ApplyItem],
    ) -> object:
        entry = vars(self)["_table"].get(request.client)
        last = entry.last_number if entry is not None else 0
        if entry is not None and 0 < request.number <= last:
            entry.last_number = request.number - 1
        planned = plan_one(self, op, timestamp, index, request, items)
        if entry is not None:
            entry.last_number = max(last, entry.last_number)
        return planned

    patch.set(sessions.SessionTable, "_plan_one", wrong)


@mutant(breaks="5.4 (T-20)", source="Raft dissertation 6.3; VR Revisited 4.1", expects=("INV-18",))
def no_duplicate_check(patch: Patch) -> None:
    """Neither the primary nor whoever executes asks whether a number was there before."""
    no_duplicate_check_at_admission(patch)
    no_duplicate_check_at_apply(patch)


@mutant(
    breaks="5.4: eviction inside apply (T-21)",
    source="eviction by local time: Redis keys that expire at replicas",
    expects=("INV-18", "INV-19", "INV-20", "INV-21"),
)
def evict_by_local_time(patch: Patch) -> None:
    """Which session makes room depends on when the replica gets to it."""
    apply: Callable[[execution.Execution, Prepare], None] = vars(execution.Execution)["_apply"]
    times = [0]

    def timed(self: execution.Execution, prepare: Prepare) -> None:
        times[0] = self.state.now_tick
        apply(self, prepare)

    def wrong(self: sessions.SessionTable) -> None:
        table: OrderedDict[bytes, object] = vars(self)["_table"]
        del table[list(table)[times[0] % len(table)]]

    patch.set(execution.Execution, "_apply", timed)
    patch.set(sessions.SessionTable, "_evict", wrong)


@mutant(
    breaks="5.4: k > last_number + 1 is not executed",
    source="Raft dissertation 6.3: serial numbers that only have to rise",
    expects=("INV-18", "INV-19"),
)
def gaps_in_numbers_execute(patch: Patch) -> None:
    """A number far ahead of its turn is executed, so those before it never are."""
    plan_one: Callable[..., object] = vars(sessions.SessionTable)["_plan_one"]

    def wrong(
        self: sessions.SessionTable,
        op: int,
        timestamp: int,
        index: int,
        request: OrderedRequest,
        items: list[ApplyItem],
    ) -> object:
        entry = vars(self)["_table"].get(request.client)
        if entry is not None and entry.session == request.session and request.number > entry.last_number:
            entry.last_number = request.number - 1
        return plan_one(self, op, timestamp, index, request, items)

    patch.set(sessions.SessionTable, "_plan_one", wrong)
    patch.set(admission.Admission, "_release_held", _release_nothing)

    def number(self: admission.Admission, connection: int, request: Request) -> None:
        insides = vars(self)
        table: sessions.SessionTable = insides["_execution"].sessions
        last = max(insides["_admitted"].get((request.client, request.session), 0), table.last_number(request.client))
        if request.number <= last:
            duplicate: Callable[..., None] = vars(admission.Admission)["_on_duplicate"]
            duplicate(self, connection, request, table.last_number(request.client))
            return
        insides["_execution"].waiting[request.client, request.number] = connection
        insides["_admitted"][request.client, request.session] = request.number
        enqueue: Callable[..., None] = vars(admission.Admission)["_enqueue"]
        enqueue(self, request)

    patch.set(admission.Admission, "_on_number", number)


def _release_nothing(_self: admission.Admission, _client: bytes, _number: int) -> None:
    return


@mutant(
    breaks="5.4: the table is replicated state (T-20)",
    source="VR Revisited 4.1: a client table that only the primary keeps",
    expects=("INV-18", "INV-19", "INV-33"),
)
def table_emptied_by_a_view(patch: Patch) -> None:
    """A new primary begins with an empty session table."""
    start = normal.Normal.start_as_primary

    def wrong(self: normal.Normal) -> None:
        start(self)
        held: execution.Execution = vars(self)["_execution"]
        table: OrderedDict[bytes, object] = vars(held.sessions)["_table"]
        table.clear()

    patch.set(normal.Normal, "start_as_primary", wrong)


@mutant(
    breaks="5.4: the map of numbers in flight is rebuilt",
    source="VR Revisited 4.1",
    expects=("INV-18",),
    equivalent="a number that is ordered twice for that is not executed a second time: whoever executes asks its table",
    pair="in-flight-forgotten-and-executed",
)
def in_flight_is_forgotten(patch: Patch) -> None:
    """A new primary does not look which numbers stand in its log already."""

    def wrong(_self: admission.Admission) -> bool:
        return True

    patch.set(admission.Admission, "_rebuild", wrong)


@mutant(
    breaks="5.4 (T-20)",
    source="VR Revisited 4.1",
    expects=("INV-18",),
)
def in_flight_forgotten_and_executed(patch: Patch) -> None:
    """A new primary does not look which numbers stand in its log, and whoever executes does not ask either."""
    in_flight_is_forgotten(patch)
    no_duplicate_check_at_apply(patch)


@mutant(
    breaks="no_session only after confirmation (5.4, T-33)",
    source="found by argument while the protocol was written",
    expects=("no session",),
)
def no_session_at_once(patch: Patch) -> None:
    """A primary that does not know a session says so without asking whether it still leads."""

    def wrong(_self: reads.Reads, then: Callable[[], None]) -> bool:
        then()
        return True

    patch.set(reads.Reads, "confirm", wrong)


@mutant(
    breaks="5.4: a refusal is certain (T-25)",
    source="FoundationDB's commit_unknown_result, reported as a failure by layers above it",
    expects=("INV-22",),
)
def refuse_what_is_ordered(patch: Patch) -> None:
    """A primary that lets go refuses everybody who waits, those whose request may still commit as well."""
    close = admission.Admission.close

    def wrong(self: admission.Admission) -> None:
        execution_ = vars(self)["_execution"]
        unanswered = dict(execution_.waiting)
        close(self)
        for (client, number), connection in sorted(unanswered.items()):
            session = execution_.sessions.session_of(client) or 0
            self.state.reject(connection, client, session, number, RejectCode.NOT_PRIMARY)

    patch.set(admission.Admission, "close", wrong)


@mutant(
    breaks="5.4: to register twice gives the same session",
    source="ZooKeeper clients that reconnect into a second session",
    expects=("INV-18", "INV-19"),
)
def registering_again_begins_anew(patch: Patch) -> None:
    """Whoever registers again gets a session in place of the one that it has."""
    register: Callable[..., object] = vars(sessions.SessionTable)["_plan_register"]

    def wrong(
        self: sessions.SessionTable, op: int, timestamp: int, index: int, request: OrderedRequest, entry: object
    ) -> object:
        if entry is not None:
            del vars(self)["_table"][request.client]
        return register(self, op, timestamp, index, request, None)

    patch.set(sessions.SessionTable, "_plan_register", wrong)


@mutant(
    breaks="5.4: the last W replies are kept (T-39)",
    source="Raft dissertation 6.3: only the newest reply is kept, with several requests under way",
    expects=(
        "kept reply",
        "INV-33",
    ),
)
def one_reply_is_kept(patch: Patch) -> None:
    """Of a session only the newest reply is kept, however many numbers are under way."""
    table = sessions.SessionTable.__init__

    def wrong(self: sessions.SessionTable, sessions_max: int, _window: int) -> None:
        table(self, sessions_max, 1)

    patch.set(sessions.SessionTable, "__init__", wrong)


@mutant(
    breaks="5.4: replies belong to the checkpoint (T-39)",
    source="Raft dissertation 6.3",
    expects=("kept reply",),
)
def checkpoint_without_replies(patch: Patch) -> None:
    """The replies of sessions are left out of checkpoints."""
    rows = sessions.SessionTable.rows

    def wrong(self: sessions.SessionTable) -> tuple[SessionRow, ...]:
        return tuple(row._replace(replies=()) for row in rows(self))

    patch.set(sessions.SessionTable, "rows", wrong)


@mutant(
    breaks="R-APPLY, 5.4: a reply goes out after commit and apply",
    source="MongoDB with write concern 1: answers that a failover takes back",
    expects=(
        "INV-12",
        "INV-14",
        "INV-19",
        "INV-22",
    ),
)
def reply_when_ordered(patch: Patch) -> None:
    """A duplicate of a number in flight is answered at once, as if it had been executed."""
    duplicate: Callable[..., None] = vars(admission.Admission)["_on_duplicate"]

    def wrong(self: admission.Admission, connection: int, request: Request, ordered: int) -> None:
        execution_ = vars(self)["_execution"]
        if request.number > ordered:
            kept = KeptReply(request.number, self.state.log.head, self.state.last_timestamp, b"")
            execution_.reply(connection, request.client, kept, replayed=True)
            return
        duplicate(self, connection, request, ordered)

    patch.set(admission.Admission, "_on_duplicate", wrong)
