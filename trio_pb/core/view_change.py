"""From one view to the next: enter, state our log, select, repair, install (VRR 4.2, PROTOCOL 6).

Everything that changes a promise goes through one atomic superblock image. In memory the log, log_view
and commit point switch in `_finish_install`, when that image is durable, and nowhere else (T-2).
"""

from __future__ import annotations

import attrs

from trio_pb.core.checkpoints import Checkpoints
from trio_pb.core.contradiction import ContradictionError
from trio_pb.core.durable import Install
from trio_pb.core.log import Hold, Log
from trio_pb.core.marks import Mark, reach
from trio_pb.core.messages import (
    DoViewChange,
    EntryState,
    Envelope,
    GetStartView,
    LogEntry,
    StartView,
    Status,
    ViewChangeReason,
)
from trio_pb.core.normal import Normal
from trio_pb.core.peers import Peers
from trio_pb.core.persistence import Persistence
from trio_pb.core.prepare import PrepareId
from trio_pb.core.repair import Repair
from trio_pb.core.selection import Selected, select
from trio_pb.core.state import State, primary_of
from trio_pb.core.timeout import Timeout
from trio_pb.core.wishes import Wishes

__all__ = ["ViewChange"]

_NORMAL = Status.NORMAL  # Asked for in every step.


@attrs.frozen
class _Installing:
    """An install whose superblock image is queued or in flight."""

    view: int
    install: Install
    log: Log
    commit: PrepareId
    last_timestamp: int
    truncated: int


@attrs.define(eq=False)
class _Stated:
    """The newest do_view_change of one replica for our view."""

    boot: int
    head: int
    message: DoViewChange


class ViewChange:
    """Moves this replica between views; writes `status` together with birth and recovery."""

    def __init__(
        self,
        state: State,
        persistence: Persistence,
        peers: Peers,
        repair: Repair,
        normal: Normal,
        wishes: Wishes,
        checkpoints: Checkpoints,
    ) -> None:
        self._checkpoints = checkpoints
        self.state = state
        self._persistence = persistence
        self._peers = peers
        self._repair = repair
        self._normal = normal
        self._wishes = wishes
        self.view_timeout = Timeout("view_change")  # T_VC.
        self.resend_timeout = Timeout("do_view_change")  # T_DVC.
        self.forfeit_timeout = Timeout("forfeit")
        self._forfeited_view = 0  # The last view that we were to lead and did not.
        self._attempts = 0  # k: views in a row that came to nothing.
        self._entered_tick = 0
        self._progress_seen = 0
        self._stated: dict[int, _Stated] = {}
        self._is_unsaid = False  # Our do_view_change for this view has yet to leave.
        self._is_selection_stale = True
        self._selected: Selected | None = None
        self._installing: _Installing | None = None
        self._nonce = 0  # Of our get_start_view, while amnesiac.

    # --- Status -----------------------------------------------------------------------------------

    def _transition_to_view_change(self) -> None:
        """Leave whatever we were; stops the timers of both roles, starts T_VC and T_DVC."""
        state = self.state
        self._normal.stop()
        state.abdicated = False
        if state.status is not Status.AMNESIAC:
            state.status = Status.VIEW_CHANGE
        self._entered_tick = state.now_tick
        self._progress_seen = self._progress_of_primary()
        self._restart_view_timeout()
        self.resend_timeout.start(state.now_tick, state.timeouts.do_view_change_ticks)

    def _transition_to_normal(self) -> None:
        """Take up our role in the view; stops T_VC, T_DVC and any wish."""
        state = self.state
        assert state.log_view == state.view == state.durable_view, "normal only in the view of our durable log"
        state.status = Status.NORMAL
        self.view_timeout.stop()
        self.resend_timeout.stop()
        self._wishes.forget()
        self._stated.clear()
        self._repair.forget()
        if primary_of(state.view) == state.replica:
            state.trace("became_primary", view=state.view)
            self._normal.start_as_primary()
        else:
            state.trace("became_backup", view=state.view)
            self._normal.start_as_backup()

    def resume(self, status: Status) -> None:
        """Begin a boot in the status that recovery found (PROTOCOL 7.2)."""
        state = self.state
        state.status = status
        self._entered_tick = state.now_tick
        if status is Status.VIEW_CHANGE:
            self._is_unsaid = True
            self._restart_view_timeout()
            self.resend_timeout.start(state.now_tick, state.timeouts.do_view_change_ticks)
        elif status is Status.EX_PRIMARY:
            state.trace("ex_primary", view=state.view)
        elif status is Status.NORMAL:
            self._normal.start_as_backup()
        elif status is Status.AMNESIAC:
            self.resend_timeout.start(state.now_tick, state.timeouts.do_view_change_ticks)

    @property
    def is_installing(self) -> bool:
        """Whether an image that adopts a log is on its way."""
        return self._installing is not None

    # --- Reasons to move ----------------------------------------------------------------------------

    def on_suspect_timeout(self) -> None:
        """T_SUSPECT: the primary is silent."""
        self._normal.suspect_timeout.stop()
        self.state.counters["suspected"] += 1
        self._wishes.wish(ViewChangeReason.PRIMARY_SILENT)

    def on_primary_heard(self) -> None:
        """A backup that hears its primary does not wish for another, unless that primary asked for it."""
        if self._wishes.reason is ViewChangeReason.PRIMARY_SILENT:
            reach(Mark.WISH_WITHDRAWN)
            self._wishes.withdraw()

    def on_view_timeout(self) -> None:
        """T_VC: this view comes to nothing; look beyond it."""
        state = self.state
        if self._has_progressed():
            reach(Mark.PROGRESS_GRANTED)
            self._restart_view_timeout()
            return
        self._attempts += 1
        if self._attempts == 2:
            reach(Mark.VIEW_FAILED_TWICE)
        self._restart_view_timeout()
        state.trace("view_timeout", view=state.view, attempts=self._attempts)
        self._wishes.wish(ViewChangeReason.NO_PROGRESS)

    def abdicate(self, reason: str, *, target: int | None = None) -> None:
        """Stop leading, for good within this view, and say so (PROTOCOL 6.2)."""
        state = self.state
        if not state.is_leading or len(state.configuration.voters) == 1:
            return
        state.abdicated = True
        state.trace("abdicated", view=state.view)
        state.counters[f"abdicated_{reason}"] += 1
        reach(Mark[f"ABDICATED_{reason.upper()}"])
        self._normal.heartbeat_timeout.stop()
        self._wishes.wish(ViewChangeReason.ABDICATED, target=target, sanctioned=True)

    def wish_as_ex_primary(self) -> None:
        """We led this view in an earlier boot and may not lead it again (T-6)."""
        if self.state.status is Status.EX_PRIMARY and self._wishes.target is None and self.state.is_live:
            self._wishes.wish(ViewChangeReason.EX_PRIMARY, sanctioned=True)

    def forgive(self) -> None:
        """Forget failed attempts: the next view gets its first patience again (PROTOCOL 6.1)."""
        self._attempts = 0

    # --- Entering -----------------------------------------------------------------------------------

    def enter(self, view: int) -> None:
        """Promise never to go back below `view` (R-ENTER, R-JOIN)."""
        state = self.state
        assert view > state.view, "views only rise"
        if self._installing is not None:
            reach(Mark.ENTERED_WHILE_INSTALLING)
        if state.status is Status.VIEW_CHANGE:
            reach(Mark.ENTERED_AGAIN)
        state.view = view
        state.commit_heard = 0
        self._stated.clear()
        self._selected = None
        self._is_selection_stale = True
        self._is_unsaid = True
        self._wishes.forget()
        self._repair.forget()
        self._transition_to_view_change()
        self._persistence.change(view=view)
        state.trace("view_change_entered", view=view)

    def join(self, view: int) -> None:
        """Somebody is in a higher view, so a quorum wished for it: follow (R-JOIN)."""
        if view > self.state.view:
            reach(Mark.ENTERED_BY_JOINING)
            self.enter(view)

    # --- Stating our log ------------------------------------------------------------------------------

    def on_resend_timeout(self) -> None:
        """T_DVC: say again what the new primary may have missed."""
        state = self.state
        self.resend_timeout.start(state.now_tick, state.timeouts.do_view_change_ticks)
        if state.status is Status.AMNESIAC:
            self._nonce += 1
            state.send(tuple(p for p in (primary_of(state.view),) if p != state.replica), self._get_start_view())
        else:
            self._is_unsaid = True
            self._is_selection_stale = True  # What we hold ourselves may have changed.

    def _get_start_view(self) -> GetStartView:
        # Not reused by a later boot, so an old answer cannot pass for one to us.
        return GetStartView((self.state.boot << 32) + self._nonce)

    def _state_our_log(self) -> None:
        """Send do_view_change to the primary of our view, once the view is durable (INV-9)."""
        state = self.state
        ready = state.status is Status.VIEW_CHANGE and state.durable_view == state.view and state.is_live
        if not self._is_unsaid or not ready:
            return
        self._is_unsaid = False
        message = self._make_do_view_change()
        primary = primary_of(state.view)
        if primary != state.replica:
            state.send((primary,), message)
        # The others learn of the view by any frame of ours; a ping carries it (R-JOIN).
        self._peers.ping(tuple(peer for peer in state.peers if peer != primary))

    def _make_do_view_change(self) -> DoViewChange:
        state, log = self.state, self.state.log
        commit = state.commit_known
        low = max(commit.op + 1, log.head - state.limits.entries_max + 1)
        entries = tuple(LogEntry(op, log.checksum(op), self._claim(op)) for op in range(low, log.head + 1))
        return DoViewChange(
            log_view=state.log_view,
            head=log.id(log.head),
            commit=commit,
            entries=entries,
            last_timestamp=state.last_timestamp,
            checkpoint=state.checkpoint,
            certified=state.certified,
            wal_low=state.wal_low,
            configuration=state.configuration,
            pending=None,
        )

    def _claim(self, op: int) -> EntryState:
        """R-NACK: deny only what we certainly never acknowledged."""
        if self.state.log.hold(op) is not Hold.MISSING:
            return EntryState.PRESENT
        return EntryState.FAULT if op <= self.state.acked else EntryState.NACK

    # --- Selecting (primary of the view) ----------------------------------------------------------------

    def on_do_view_change(self, envelope: Envelope, message: DoViewChange) -> None:
        """Collect; or, when we lead this view already, answer with its log."""
        state = self.state
        if envelope.view != state.view or primary_of(state.view) != state.replica:
            return
        if state.status is Status.NORMAL:
            reach(Mark.ANSWERED_AS_PRIMARY)
            self._send_start_view((envelope.replica,), 0)
            return
        if state.status is not Status.VIEW_CHANGE:
            return
        known = self._stated.get(envelope.replica)
        if known is None or envelope.boot >= known.boot:
            self._stated[envelope.replica] = _Stated(envelope.boot, envelope.op, message)
            self._checkpoints.note_advert(envelope.replica, message.checkpoint)
            self._checkpoints.note_certified(message.certified)
            self._is_selection_stale = True

    def advance(self) -> None:
        """Do whatever became possible: enter a view, state our log, select, install."""
        view = self._wishes.entry()
        if view is not None and self.state.status is not Status.UNBORN:
            reach(Mark.ENTERED_BY_WISHES)
            self.enter(view)
        if self.state.status is _NORMAL:
            return
        self.wish_as_ex_primary()
        self._state_our_log()
        if self._is_selecting():
            self._advance_selection()

    def _is_selecting(self) -> bool:
        state = self.state
        return (
            state.status is Status.VIEW_CHANGE
            and primary_of(state.view) == state.replica
            and state.durable_view == state.view
            and state.is_live
            and self._installing is None
            and not state.is_switching
        )

    def _advance_selection(self) -> None:
        state = self.state
        own = _Stated(state.boot, state.log.head, self._make_do_view_change())
        stated = {**self._stated, state.replica: own}
        if sum(1 for replica in stated if state.is_voter(replica)) < state.quorums.view_change:
            return
        if self._is_selection_stale:
            self._select(stated)
        if self._must_forfeit(stated):
            self._forfeit()
        else:
            self._install_when_repaired()

    def _must_forfeit(self, stated: dict[int, _Stated]) -> bool:
        """Whether to lead would first need a state transfer, which may take long (PROTOCOL 6.4, 1)."""
        state, candidate = self.state, self._repair.candidate
        if "syncing" in state.unfit or state.is_untrusted or state.is_state_lost:
            return True
        if self._selected is None or candidate is None:
            return False
        needed = candidate.appended_prefix + 1
        lows = [item.message.wal_low for replica, item in stated.items() if replica != state.replica]
        is_missing = needed <= candidate.head and candidate.hold(needed) is Hold.MISSING
        return is_missing and bool(lows) and needed < min(lows)

    def _forfeit(self) -> None:
        """Let another lead: wish for the next view, and do not stand for a while."""
        state = self.state
        if self._forfeited_view == state.view:
            return
        self._forfeited_view = state.view
        reach(Mark.FORFEITED)
        state.unfit.add("forfeit")
        self.forfeit_timeout.start(state.now_tick, state.timeouts.unfit_ticks)
        state.trace("forfeited", view=state.view)
        self._wishes.wish(ViewChangeReason.FORFEIT)

    def on_forfeit_timeout(self) -> None:
        """Stand again."""
        self.forfeit_timeout.stop()
        self.state.unfit.discard("forfeit")

    def _select(self, stated: dict[int, _Stated]) -> None:
        state = self.state
        logs = {replica: item.message for replica, item in stated.items()}
        heads = {replica: item.head for replica, item in stated.items()}
        chosen = select(logs, heads, state.configuration.voters, state.quorums)
        if not isinstance(chosen, Selected):
            self._selected = None
            everybody = set(state.configuration.voters) <= set(stated)
            if everybody:
                reach(Mark.BLOCKED)
            state.trace("selection_blocked" if everybody else "selection_undecided", op=chosen.op)
            self._is_selection_stale = False
            return
        self._is_selection_stale = False
        is_news = chosen != self._selected
        if is_news and self._selected is not None:
            reach(Mark.DECISION_CHANGED)
        if state.log_view < max(message.log_view for message in logs.values()):
            reach(Mark.NEWER_LOG_THAN_OURS)
        self._selected = chosen
        common = state.log.common_prefix(chosen.base, chosen.checksums, state.commit_max)
        candidate = state.log.adopt(chosen.base, chosen.checksums, common)
        if self._repair.candidate is not None:
            candidate.inherit(self._repair.candidate)
        if is_news:
            self._repair.forget_requests()  # Who holds what was just told: ask those, at once.
        self._repair.candidate = candidate
        self._repair.candidate_base = chosen.base.op
        self._repair.holders = dict(chosen.holders)

    def _install_when_repaired(self) -> None:
        """Everything up to the selected head is held and durable here: it becomes the view's log."""
        state, chosen, log = self.state, self._selected, self._repair.candidate
        if chosen is None or log is None:
            return
        if log.durable_prefix < log.head:
            reach(Mark.REPAIRED_BEFORE_SPEAKING)
            return
        common = state.log.common_prefix(chosen.base, chosen.checksums, state.commit_max)
        self._begin_install(chosen.base, chosen.checksums, log, common, chosen.last_timestamp, chosen.truncated)

    # --- Installing ---------------------------------------------------------------------------------------

    def _begin_install(
        self,
        base: PrepareId,
        checksums: tuple[bytes, ...],
        log: Log,
        common: int,
        last_timestamp: int,
        truncated: int = 0,
    ) -> None:
        """Queue the one atomic image that adopts the log of our view (PROTOCOL 6.5)."""
        state = self.state
        if common < state.applied:
            raise ContradictionError(f"the log of view {state.view} lacks op {state.applied}, which is committed here")
        is_amnesiac = state.status is Status.AMNESIAC
        if is_amnesiac:
            reach(Mark.AMNESIA_ENDED)
        else:
            reach(Mark.ACK_FLOOR_CARRIED if state.acked <= common else Mark.ACK_FLOOR_LOWERED)
        install = Install(
            base=base,
            checksums=checksums,
            # An amnesiac cannot know what it promised, so it is bound by all of it (PROTOCOL 7.3).
            ack_floor=base.op + len(checksums) if is_amnesiac else min(state.acked, common),
            proof_base=self._persistence.last_proof_sequence(),
        )
        commit = state.commit_known if state.commit_known.op > base.op else base
        self._installing = _Installing(state.view, install, log, base, last_timestamp, truncated)
        self._repair.installing = log
        self._persistence.change(view=state.view, log_view=state.view, install=install, commit=commit)

    def on_superblock_done(self) -> None:
        """Some image became durable; finish the install if it is in it."""
        durable, installing = self._persistence.durable, self._installing
        assert durable is not None
        if installing is not None and durable.log_view == installing.view and durable.install == installing.install:
            self._installing = self._repair.installing = None
            self._finish_install(installing)

    def _finish_install(self, done: _Installing) -> None:
        state = self.state
        dropped = max(done.truncated, state.log.head - done.log.head)
        done.log.inherit(state.log)
        if done.log.base.op < state.log.base.op:
            done.log.rebase(state.log.base)  # Freed while the image was on its way.
        state.log = done.log
        state.log_view = done.view
        state.start_view_head = done.log.head
        state.last_timestamp = max(state.last_timestamp, done.last_timestamp)
        self._persistence.begin_lineage(done.install)
        state.raise_commit(done.commit.op, done.commit.checksum)
        state.commit_heard = done.install.base.op
        if dropped > 0:
            reach(Mark.SUFFIX_DROPPED)
            state.trace("truncated", ops=dropped)
        state.trace("installed", view=done.view, head=state.log.head)
        if state.view != done.view:
            reach(Mark.INSTALL_OVERTAKEN)
            self._repair.forget()
            self._is_unsaid = True  # A newer view was entered meanwhile; our statement for it changed.
            self._is_selection_stale = True
            return
        if state.status is Status.AMNESIAC:
            state.status = Status.VIEW_CHANGE
        self._transition_to_normal()
        if state.is_primary:
            self._send_start_view(state.peers, 0)

    # --- start_view -----------------------------------------------------------------------------------------

    def _send_start_view(self, replicas: tuple[int, ...], nonce: int) -> None:
        state = self.state
        base = state.commit_known
        assert base.op == state.commit_max, "a primary knows the identity of its commit point"
        message = StartView(
            base=base,
            checksums=state.log.checksums_above(base.op),
            last_timestamp=state.last_timestamp,
            certified=state.certified,
            configuration=state.configuration,
            pending=None,
            nonce=nonce,
        )
        state.send(replicas, message)

    def on_get_start_view(self, envelope: Envelope, message: GetStartView) -> None:
        """Somebody lost track of our log."""
        if self.state.is_primary and envelope.view <= self.state.view:
            self._send_start_view((envelope.replica,), message.nonce)

    def on_start_view(self, envelope: Envelope, message: StartView) -> None:
        """Adopt the log of our view, or extend it (PROTOCOL 6.5)."""
        state = self.state
        if envelope.view != state.view or envelope.replica != primary_of(state.view):
            return
        self._checkpoints.note_certified(message.certified)
        if self._installing is not None or state.is_switching:
            return  # It is said again.
        if state.status is Status.AMNESIAC and message.nonce != self._get_start_view().nonce:
            return
        if state.log_view == state.view and state.status is not Status.AMNESIAC:
            self._extend(message)
            return
        self._demand_committed(message)
        if message.base.op + len(message.checksums) < max(state.log.base.op, state.applied):
            reach(Mark.START_VIEW_TOO_SHORT)
            return  # It ends below what later views committed: this view came to nothing.
        state.last_timestamp = max(state.last_timestamp, message.last_timestamp)
        common = state.log.common_prefix(message.base, message.checksums, state.commit_max)
        log = state.log.adopt(message.base, message.checksums, common)
        self._begin_install(message.base, message.checksums, log, common, message.last_timestamp)

    def _demand_committed(self, message: StartView) -> None:
        """What committed in the log that we hold is in the log of every later view (PROTOCOL 6.6).

        What we know from a checkpoint alone, which may be of this very view, says nothing about its beginning.

        Raises:
            ContradictionError: it is not.
        """
        known, log, base = self.state.commit_known, self.state.log, message.base
        if known.op <= log.base.op or known.op < base.op or log.checksum(known.op) != known.checksum:
            return
        ids = (base.checksum, *message.checksums)
        if ids[known.op - base.op : known.op - base.op + 1] != (known.checksum,):
            raise ContradictionError(
                f"op {known.op} is committed here, and view {self.state.view} begins without it (INV-12)"
            )

    def _extend(self, message: StartView) -> None:
        """We hold this view's log already: learn identities above our head, never shrink."""
        state, log = self.state, self.state.log
        head = message.base.op + len(message.checksums)
        if state.status is not Status.NORMAL or log.head < message.base.op:
            return
        common = min(head, log.head)
        known = log.checksum(common)
        first = common - message.base.op
        if known not in (None, message.base.checksum if first == 0 else message.checksums[first - 1]):
            raise ContradictionError(
                f"op {common} of view {state.view} is another one here than its primary has (INV-7)"
            )
        if head > log.head:
            reach(Mark.START_VIEW_EXTENDS)
            log.extend_identities(message.checksums[first:])
            state.raise_commit(message.base.op, message.base.checksum)
            state.commit_heard = max(state.commit_heard, message.base.op)

    # --- Timers -----------------------------------------------------------------------------------------------

    def _restart_view_timeout(self) -> None:
        timeouts = self.state.timeouts
        after = min(timeouts.view_change_ticks << min(self._attempts, 8), timeouts.view_change_ticks_max)
        self.view_timeout.start(self.state.now_tick, after + self.state.jitter(after // 4))

    def _has_progressed(self) -> bool:
        """Whether the new primary gets on with its repair, within what one view may take (T-27)."""
        state = self.state
        if state.now_tick - self._entered_tick > state.timeouts.view_change_total_ticks:
            return False
        progress = self._progress_of_primary()
        has_grown = progress > self._progress_seen
        self._progress_seen = progress
        return has_grown

    def _progress_of_primary(self) -> int:
        primary = primary_of(self.state.view)
        if primary == self.state.replica:
            return self.state.progress
        peer = self._peers.table.get(primary)
        return peer.progress if peer is not None else 0
