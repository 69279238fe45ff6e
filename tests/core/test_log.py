"""The log against a naive model: whatever is appended, adopted, filled, lost or made durable.

The model is two dictionaries and recomputes everything each time; the log keeps prefixes and hints.
"""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.core.bench import CLUSTER, GENESIS, chain
from trio_pb.core.contradiction import ContradictionError
from trio_pb.core.log import Hold, Log
from trio_pb.core.prepare import Prepare, PrepareId, genesis

OPS_MAX = 14
QUICK = settings(deadline=None, max_examples=100)


@attrs.define(eq=False)
class Model:
    """Op -> entry (always known to the test), what of it the log may know, and how it is held."""

    entries: list[Prepare] = attrs.field(factory=list[Prepare])
    unknown: set[int] = attrs.field(factory=set[int])
    holds: dict[int, Hold] = attrs.field(factory=dict[int, Hold])
    bodies: set[int] = attrs.field(factory=set[int])

    @property
    def head(self) -> int:
        """The highest op."""
        return len(self.entries)

    def hold(self, op: int) -> Hold:
        """How the body is held."""
        return self.holds.get(op, Hold.MISSING)

    def prefix(self, least: Hold) -> int:
        """The highest op up to which all are identified and held at least so well."""
        op = 0
        while op < self.head and op + 1 not in self.unknown and self.hold(op + 1) >= least:
            op += 1
        return op


class LogMachine(RuleBasedStateMachine):
    """Everything that the rooms of the core do to a log."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log(GENESIS)
        self.model = Model()
        self.old: list[PrepareId] = []  # Identities of entries that another log replaced.
        self.adoptions = 0

    def last(self, op: int) -> Prepare:
        """The entry at `op`."""
        return self.model.entries[op - 1] if op else genesis(CLUSTER)

    @precondition(lambda self: self.model.head < OPS_MAX)
    @rule(tag=st.sampled_from([b"a", b"b"]))
    def append(self, tag: bytes) -> None:
        """The next op, in memory, its record on the way."""
        prepare = chain(1, after=self.last(self.model.head), tag=tag)[0]
        self.log.append(prepare)
        self.model.entries.append(prepare)
        self.model.holds[prepare.op] = Hold.HELD
        self.model.bodies.add(prepare.op)

    @precondition(lambda self: self.model.head < OPS_MAX)
    @rule(count=st.integers(1, 4))
    def extend(self, count: int) -> None:
        """Identities without bodies."""
        more = chain(min(count, OPS_MAX - self.model.head), after=self.last(self.model.head), tag=b"e")
        self.log.extend_identities([prepare.checksum for prepare in more])
        self.model.entries += more

    @rule(op=st.integers(1, OPS_MAX))
    def fill(self, op: int) -> None:
        """A body that was asked for; it names the entry below as well."""
        if op > self.model.head or op in self.model.unknown:
            return
        self.log.fill(self.last(op))
        self.model.unknown.discard(op - 1)
        self.model.bodies.add(op)
        self.model.holds[op] = max(self.model.hold(op), Hold.HELD)

    @rule(op=st.integers(1, OPS_MAX))
    def become_durable(self, op: int) -> None:
        """A record is durable; it may have waited in memory for its identity."""
        if op <= self.model.head and self.model.hold(op) is Hold.HELD and op not in self.model.unknown:
            self.log.mark_durable(self.last(op).id)
            self.model.holds[op] = Hold.DURABLE

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def become_durable_too_late(self, data: st.DataObject) -> None:
        """A record of a replaced entry is durable: nothing to this log."""
        id_ = data.draw(st.sampled_from(self.old))
        if self.log.checksum(id_.op) != id_.checksum:
            self.log.mark_durable(id_)

    @rule(op=st.integers(1, OPS_MAX))
    def lose(self, op: int) -> None:
        """A body turns out unreadable."""
        if op <= self.model.head and self.model.hold(op) is Hold.DURABLE:
            self.log.lose(op)
            self.model.holds[op] = Hold.MISSING
            self.model.bodies.discard(op)

    @rule(op=st.integers(1, OPS_MAX))
    def learn(self, op: int) -> None:
        """R-IDS tells an identity."""
        if op in self.model.unknown:
            self.log.learn(op, self.last(op).checksum)
            self.log.settle_prefixes()
            self.model.unknown.discard(op)

    @rule(above=st.integers(0, OPS_MAX))
    def drop_bodies(self, above: int) -> None:
        """The cache forgets what the disk has."""
        self.log.drop_bodies(above)
        self.model.bodies -= {op for op in self.model.bodies if op <= above and self.model.hold(op) is Hold.DURABLE}

    @rule(base=st.integers(0, OPS_MAX), keep=st.integers(0, OPS_MAX), count=st.integers(0, 5))
    def adopt(self, base: int, keep: int, count: int) -> None:
        """Another log: equal up to `keep`, then different, told from `base` on (PROTOCOL 6.5)."""
        model = self.model
        keep = min(keep, model.head)
        self.adoptions += 1
        theirs = [*model.entries[:keep], *chain(count, after=self.last(keep), tag=b"log %d" % self.adoptions)]
        base = min(base, len(theirs))
        base_id = theirs[base - 1].id if base else GENESIS
        checksums = [prepare.checksum for prepare in theirs[base:]]
        common = self.log.common_prefix(base_id, checksums, keep)
        assert common <= keep, "what differs is not common"
        if keep >= base and not any(op in model.unknown for op in (keep, base)):
            assert common == keep, "the longest agreement counts"
        before = self.log.joined_checksums(0, self.log.head)
        adopted = self.log.adopt(base_id, checksums, common)
        assert self.log.joined_checksums(0, self.log.head) == before, "the old log stays until the new one is durable"
        self.old += [prepare.id for prepare in model.entries[common:]]
        self.log = adopted
        self.model = Model(
            theirs,
            {op for op in model.unknown if op <= common and op < base} | set(range(common + 1, base)),
            {op: hold for op, hold in model.holds.items() if op <= common},
            {op for op in model.bodies if op <= common},
        )

    @invariant()
    def same(self) -> None:
        """Log and model agree about everything that can be asked."""
        log, model = self.log, self.model
        assert log.head == model.head
        for op in range(1, model.head + 1):
            assert log.checksum(op) == (None if op in model.unknown else self.last(op).checksum)
            assert log.hold(op) is model.hold(op)
            body = log.body(op)
            assert (body is not None) == (op in model.bodies)
            assert body is None or body == self.last(op)
        assert log.bodies_in_memory == len(model.bodies)
        assert log.durable_prefix == model.prefix(Hold.DURABLE)
        assert log.appended_prefix == model.prefix(Hold.HELD)

    @invariant()
    def finds_holes(self) -> None:
        """What repair looks for is found, in its order."""
        log, model = self.log, self.model
        assert log.lowest_unknown() == min(model.unknown, default=None)
        ops = range(1, model.head + 1)
        holes = [op for op in ops if op not in model.unknown and model.hold(op) is Hold.MISSING]
        assert log.missing(1, model.head, 100) == holes
        assert log.missing(3, 9, 2) == [op for op in holes if 3 <= op <= 9][:2]
        assert log.is_identified(1, model.head) == (not model.unknown)


LogMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLog = LogMachine.TestCase


# --- Letting go ---------------------------------------------------------------------------------------


def held(prepares: list[Prepare], durable: int) -> Log:
    """A log of these, durable up to `durable`."""
    log = Log(GENESIS)
    for prepare in prepares:
        log.append(prepare)
        if prepare.op <= durable:
            log.mark_durable(prepare.id)
    return log


def facts(log: Log) -> dict[str, object]:
    """All that can be asked of a log, op by op."""
    ops = range(log.base.op, log.head + 1)
    return {
        "base": log.base,
        "checksums": [log.checksum(op) for op in ops],
        "holds": [log.hold(op) for op in ops[1:]],
        "bodies": [op for op in ops if log.body(op) is not None],
        "durable": log.durable_prefix,
        "appended": log.appended_prefix,
        "unknown": log.lowest_unknown(),
        "missing": log.missing(1, log.head, 100),
    }


@QUICK
@given(count=st.integers(1, 12), durable=st.integers(0, 12), at=st.integers(0, 12))
def test_freeing_forgets_what_stands_below_and_nothing_else(count: int, durable: int, at: int) -> None:
    """The new base is identified; above it all is as before; below it nothing is known."""
    prepares = chain(count)
    durable, at = min(durable, count), min(at, durable, count)
    log = held(prepares, durable)
    before = {op: (log.checksum(op), log.hold(op), log.body(op)) for op in range(at + 1, count + 1)}
    log.free(at)
    assert log.base == (prepares[at - 1].id if at else GENESIS)
    assert {op: (log.checksum(op), log.hold(op), log.body(op)) for op in range(at + 1, count + 1)} == before
    assert (log.head, log.durable_prefix, log.appended_prefix) == (count, durable, count)
    assert all(log.checksum(op) is None and log.body(op) is None for op in range(at))
    log.free(at - 1)
    assert log.base.op == at


@QUICK
@given(
    count=st.integers(0, 10),
    durable=st.integers(0, 10),
    base=st.integers(1, 14),
    is_same=st.booleans(),
    unknown=st.sets(st.integers(1, 10)),
)
def test_rebasing_keeps_what_continues_the_new_base(
    count: int, durable: int, base: int, is_same: bool, unknown: set[int]
) -> None:
    """8.2, 4: another prepare there, or a log that ends below: what we hold above is of a dead chain."""
    prepares = chain(14)
    durable = min(durable, count)
    log = held(prepares[:durable], durable)
    log.extend_identities([prepare.checksum for prepare in prepares[durable:count]])
    for op in unknown:
        if durable < op < count:
            log.forget_identity(op)
    was_known = log.checksum(base)
    target = prepares[base - 1].id if is_same else PrepareId(base, b"another prepare.")
    continues = base <= count and was_known in (None, target.checksum)
    above = [log.checksum(op) for op in range(base + 1, count + 1)] if continues else []
    log.rebase(target)
    assert (log.base, log.head) == (target, base + len(above))
    assert [log.checksum(op) for op in range(base, log.head + 1)] == [target.checksum, *above]
    assert base <= log.durable_prefix <= log.appended_prefix <= log.head
    for op in range(base + 1, log.durable_prefix + 1):
        assert log.checksum(op) is not None
        assert log.hold(op) is Hold.DURABLE
    assert log.lowest_unknown() == next((op for op in range(base + 1, log.head + 1) if log.checksum(op) is None), None)
    assert log.bodies_in_memory == (max(durable - base, 0) if continues else 0)


@QUICK
@given(
    ours=st.integers(1, 12),
    freed=st.integers(0, 12),
    keep=st.integers(0, 12),
    told=st.integers(0, 12),
    more=st.integers(0, 5),
)
def test_adopting_is_the_same_whatever_was_freed(ours: int, freed: int, keep: int, told: int, more: int) -> None:
    """6.5: a log told from a base below, at or above ours: as if nothing had been freed, above our base."""
    prepares = chain(ours)
    keep = min(keep, ours)
    freed = min(freed, keep)  # What was freed is committed, so every later log has it.
    theirs = [*prepares[:keep], *chain(more, after=prepares[keep - 1] if keep else None, tag=b"theirs")]
    told = min(told, len(theirs))
    base = theirs[told - 1].id if told else GENESIS
    checksums = [prepare.checksum for prepare in theirs[told:]]
    whole, short = held(prepares, ours), held(prepares, ours)
    short.free(freed)
    commons = [log.common_prefix(base, checksums, keep) for log in (whole, short)]
    assert commons[0] == commons[1]
    adopted = [log.adopt(base, checksums, commons[0]) for log in (whole, short)]
    adopted[0].free(freed)
    assert facts(adopted[0]) == facts(adopted[1])
    # And what the old log knew more is taken over, in whichever of the two something was freed.
    for new in adopted:
        new.inherit(short)
    assert facts(adopted[0]) == facts(adopted[1])
    late = held(prepares, ours).adopt(base, checksums, commons[0])
    late.inherit(short)
    if late.checksum(freed) is not None:
        late.free(freed)
        assert facts(late) == facts(adopted[0])


def test_a_log_that_contradicts_what_was_freed_is_refused() -> None:
    """INV-2: what was let go of is committed."""
    log = held(chain(5), 5)
    log.free(3)
    with pytest.raises(ContradictionError, match="at op 3"):
        log.common_prefix(GENESIS, [prepare.checksum for prepare in chain(5, tag=b"other")], 5)


def test_the_base_only_rises() -> None:
    """What was let go of does not come back."""
    log = held(chain(5), 5)
    log.free(3)
    with pytest.raises(AssertionError, match="only rises"):
        log.rebase(chain(2)[1].id)


def test_a_log_is_a_hash_chain() -> None:
    """INV-16: an entry whose parent is not our head is none of ours."""
    log = Log(GENESIS)
    log.append(chain(1)[0])
    with pytest.raises(AssertionError, match="hash chain"):
        log.append(chain(2, tag=b"other")[1])


def test_a_body_belongs_to_its_identity() -> None:
    """The body of another prepare is refused."""
    log = Log(GENESIS)
    log.extend_identities([chain(1)[0].checksum])
    with pytest.raises(AssertionError, match="belongs"):
        log.fill(chain(1, tag=b"other")[0])


def test_an_identity_never_changes() -> None:
    """Learning another prepare at a known op is impossible."""
    log = Log(GENESIS)
    log.extend_identities([prepare.checksum for prepare in chain(2)])
    with pytest.raises(AssertionError, match="identity"):
        log.learn(1, bytes(16))


def test_inherit_takes_over_only_what_fits() -> None:
    """An install keeps the bodies and durable records that stand in the new log as well."""
    ours = chain(3)
    old = Log(GENESIS)
    for prepare in ours:
        old.append(prepare)
    old.mark_durable(ours[0].id)
    old.mark_durable(ours[1].id)
    new = Log(GENESIS)
    new.extend_identities([ours[0].checksum, ours[1].checksum, chain(3, tag=b"z")[2].checksum])
    new.inherit(old)
    assert (new.durable_prefix, new.body(2), new.body(3)) == (2, ours[1], None)


def test_dropping_bodies_keeps_what_is_not_durable() -> None:
    """The cache forgets what the disk has, and nothing else."""
    log = Log(GENESIS)
    for prepare in chain(3):
        log.append(prepare)
    log.mark_durable(chain(3)[0].id)
    log.drop_bodies(2)
    assert [log.body(op) is None for op in (1, 2, 3)] == [True, False, False]


def test_inherit_tells_identities_below_an_agreement() -> None:
    """Where two logs agree at an op they agree everywhere below: what one does not know, the other tells."""
    log = chain(4)
    known = Log(GENESIS)
    known.extend_identities([prepare.checksum for prepare in log])
    jumped = Log(GENESIS).adopt(log[3].id, (), 0)
    assert jumped.checksum(2) is None
    jumped.inherit(known)
    assert [jumped.checksum(op) for op in range(1, 5)] == [prepare.checksum for prepare in log]
