"""When a primary lets go: no contact, a sick disk, no progress, or a planned hand-over (PROTOCOL 6.1, 11)."""

from __future__ import annotations

from trio_pb.core.admission import Admission
from trio_pb.core.messages import Status
from trio_pb.core.normal import Normal
from trio_pb.core.peers import Peers
from trio_pb.core.persistence import Persistence
from trio_pb.core.ports import TransferDone
from trio_pb.core.state import State
from trio_pb.core.timeout import Timeout
from trio_pb.core.view_change import ViewChange
from trio_pb.core.wishes import next_view_of

__all__ = ["Leadership"]

STALL_DOUBLINGS_MAX = 2


class Leadership:
    """Judges this replica's own fitness to lead, at every ping timeout and heartbeat."""

    def __init__(
        self,
        state: State,
        persistence: Persistence,
        peers: Peers,
        normal: Normal,
        admission: Admission,
        view_change: ViewChange,
    ) -> None:
        self.state = state
        self._persistence = persistence
        self._peers = peers
        self._normal = normal
        self._admission = admission
        self._view_change = view_change
        self.transfer_timeout = Timeout("transfer")
        self._transfer_view: int | None = None  # The view that a hand-over wants to leave.
        self._stalls = 0  # j: doublings of T_STALL.
        self._applied_seen = 0
        self._applied_tick = 0  # When `applied` last moved, or nothing waited.
        self._normal_since: int | None = None
        self._unfit_since: int | None = None  # Since when we lead although we are not fit to.
        self._had_reach = False

    # --- Health -------------------------------------------------------------------------------------

    def on_ping_timeout(self) -> None:
        """Look at disk, progress and calm; every T_PING."""
        self._judge_disk()
        self._judge_progress()
        self._forgive()

    def on_heartbeat_timeout(self) -> None:
        """T_CQ: a primary that nobody answers lets go."""
        if self.state.is_leading and not self._peers.has_contact():
            self._view_change.abdicate("no_contact")

    def _judge_disk(self) -> None:
        """T_DISK: our own journal does not get on."""
        state = self.state
        oldest = self._persistence.oldest_append_tick
        if oldest is not None and state.now_tick - oldest >= state.timeouts.disk_ticks:
            state.unfit.add("disk")
            self._view_change.abdicate("slow_disk")
        else:
            state.unfit.discard("disk")
        self._judge_fitness()

    def _judge_fitness(self) -> None:
        """A primary that was unfit for long, for any other reason, lets a fit one lead (PROTOCOL 6.1)."""
        state = self.state
        if state.fit or not state.is_leading:
            self._unfit_since = None
        elif self._unfit_since is None:
            self._unfit_since = state.now_tick
        elif state.now_tick - self._unfit_since >= state.timeouts.disk_ticks and self._candidates():
            self._view_change.abdicate("unfit")

    def _judge_progress(self) -> None:
        """T_STALL: somebody waits and nothing is applied, while another could lead."""
        state = self.state
        is_waiting = bool(self._admission.queue) or state.log.head > state.applied
        if not state.is_leading or not is_waiting or state.applied != self._applied_seen:
            self._applied_seen, self._applied_tick = state.applied, state.now_tick
            return
        patience = state.timeouts.stall_ticks << self._stalls
        if state.now_tick - self._applied_tick >= patience and self._peers.eligible():
            self._stalls = min(self._stalls + 1, STALL_DOUBLINGS_MAX)
            self._applied_tick = state.now_tick
            self._view_change.abdicate("stall")

    def _forgive(self) -> None:
        """Long calm, or regained reach, returns the back-offs to zero (PROTOCOL 6.1)."""
        state = self.state
        if state.status is not Status.NORMAL:
            self._normal_since = None
        elif self._normal_since is None:
            self._normal_since = state.now_tick
        elif state.now_tick - self._normal_since >= state.timeouts.forgive_ticks:
            self._stalls = 0
            self._view_change.forgive()
        has_reach = self._peers.reach() >= state.quorums.view_change
        if has_reach and not self._had_reach:
            self._view_change.forgive()
        self._had_reach = has_reach

    # --- Hand-over ------------------------------------------------------------------------------------

    def on_transfer(self) -> None:
        """Hand leadership to the fittest other voter before this process ends."""
        state = self.state
        if self._transfer_view is not None:
            return  # Under way already; one answer serves both.
        if not state.is_leading or not self._candidates():
            state.outputs.append(TransferDone(handed_over=False))
            return
        state.is_handing_over = True
        self._transfer_view = state.view
        self.transfer_timeout.start(state.now_tick, state.timeouts.transfer_ticks)

    def on_transfer_timeout(self) -> None:
        """T: nobody took over in time; an ordinary view change will follow."""
        has_left = self.state.view != self._transfer_view or self.state.abdicated
        self._finish_transfer(handed_over=has_left)

    def advance(self) -> None:
        """Go on with a hand-over: wait until one other holds everything, then name its view."""
        state = self.state
        if self._transfer_view is None:
            return
        if state.view != self._transfer_view:
            if state.status is Status.NORMAL:
                self._finish_transfer(handed_over=True)
            return
        if state.is_leading and state.commit_max == state.log.head:
            ready = [peer for peer in self._candidates() if self._normal.acked_ops.get(peer, 0) == state.log.head]
            if ready:
                target = min(next_view_of(state.view, peer) for peer in ready)
                self._normal.heartbeat()  # The last commit point, so that nobody has to guess it.
                self._view_change.abdicate("transfer", target=target)

    def _candidates(self) -> list[int]:
        eligible = self._peers.eligible()
        return [replica for replica in eligible if replica != self.state.replica]

    def _finish_transfer(self, *, handed_over: bool) -> None:
        self._transfer_view = None
        self.transfer_timeout.stop()
        self.state.is_handing_over = False
        self.state.outputs.append(TransferDone(handed_over=handed_over))
