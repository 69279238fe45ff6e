"""Coverage of the protocol, not of lines: its rare branches have names, and a sweep says which it never met.

A mark is nothing to the protocol: no room reads one. Whoever tests it takes the marks that were reached
and adds them up; a mark that no run ever reaches is a hole in what the runs try.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Mark", "reach", "take_reached"]


class Mark(StrEnum):
    """What happens seldom and decides much, by section of PROTOCOL."""

    # 5.2 - 5.3, the normal case.
    GAP_KEPT = "backup: a prepare above a gap is kept"
    GAP_CLOSED = "backup: what was kept above a gap is appended once it is closed"
    GAP_FULL = "backup: the highest prepare above a gap makes room for a lower one"
    JOURNAL_FULL = "backup: a prepare beyond the journal's capacity is not taken"
    FORKED_HEAD = "backup: a heartbeat names another head or commit point than our log"
    ACK_REPEATED = "backup: a heartbeat's answer repeats the acknowledgement"
    LOST_PROPOSAL_ACKED = "primary: an acknowledgement of a proposal that lost a view change is not counted"
    COMMITTED_AHEAD_OF_DISK = "primary: commits on the backups' disks before its own"
    COMMITTED_AFTER_ABDICATION = "primary: late acknowledgements commit after it let go"
    PIPELINE_FULL = "primary: the pipeline is full"
    WAL_FULL = "primary: writes wait for a quorum's checkpoint"
    ORDER_WAITS = "primary: writes wait for its own checkpoint under way"
    SEND_WINDOW = "primary: a slow backup is left to fetch by itself"
    GOSSIP = "commit: learned from a peer that is not the primary"
    # 5.4, sessions.
    REGISTERED_AGAIN = "session: a client that holds one registers again"
    EVICTED = "session: the least recently used one makes room"
    HELD_AHEAD = "session: a number ahead of its turn is held"
    WINDOW_REFUSED = "session: a number beyond the window is refused"
    DUPLICATE_IN_FLIGHT = "session: a duplicate of a number in flight waits for the one reply"
    DUPLICATE_ANSWERED = "session: a duplicate of an applied number gets the kept reply"
    DUPLICATE_FORGOTTEN = "session: a duplicate whose reply is no longer kept is refused"
    STRANGER_APPLIED = "apply: a request of a session that is gone is in the log and is not executed"
    NO_SESSION_CONFIRMED = "session: declared gone after a confirming round"
    EARLY_ADMITTED = "session: requests that came before the view's table was known are admitted"
    IN_FLIGHT_REBUILT = "session: a new primary learns from its log which numbers are in flight"
    # 6.1 - 6.2, wishing and entering.
    WISH_WITHDRAWN = "wish: withdrawn, the primary lives"
    WISH_SANCTIONED = "wish: made ours because our own primary asks for it"
    NOBODY_ELIGIBLE = "wish: nobody is eligible, so the next voter is wished for"
    ENTERED_BY_WISHES = "enter: a view change quorum wishes"
    ENTERED_BY_JOINING = "enter: somebody is in a higher view"
    ENTERED_WHILE_INSTALLING = "enter: while the log of an older view is being installed"
    ENTERED_AGAIN = "enter: from a view that never became normal"
    VIEW_FAILED_TWICE = "view change: two views in a row came to nothing"
    PROGRESS_GRANTED = "view change: a new primary that gets on with its repair is given more time"
    ABDICATED_NO_CONTACT = "abdicate: no quorum answers"
    ABDICATED_SLOW_DISK = "abdicate: the own disk does not get on"
    ABDICATED_UNFIT = "abdicate: unfit for long"
    ABDICATED_STALL = "abdicate: nothing is applied"
    ABDICATED_DIVERGED = "abdicate: the own state is wrong"
    ABDICATED_TRANSFER = "abdicate: hands over"
    # 6.3 - 6.4, selection.
    OLDER_LOG_OUTVOTED = "selection: a log of an older view does not count"
    COPY_BEATS_DENIALS = "selection: one copy is kept against enough denials"
    COPY_IN_OLDER_LOG = "selection: the only copy is in a log of an older view"
    OTHER_PREPARE_DENIES = "selection: another prepare at the same op counts as a denial"
    FAULT_ABSTAINS = "selection: an unreadable acknowledged op is neither copy nor denial"
    TRUNCATED = "selection: truncated by nack quorum"
    UNDECIDED = "selection: undecided, waits for more voices"
    ENDS_BELOW_COMMITTED = "selection: the newest log ends below what is committed"
    BLOCKED = "selection: undecided although everybody spoke"
    DECISION_CHANGED = "selection: a later voice changes the decision"
    NEWER_LOG_THAN_OURS = "selection: the new primary's own log is not among the newest"
    REPAIRED_BEFORE_SPEAKING = "selection: bodies are fetched before start_view"
    FORFEITED = "selection: the new primary would need a state transfer and lets another lead"
    ANSWERED_AS_PRIMARY = "view change: a statement that comes late is answered with start_view"
    # 6.5, install.
    ACK_FLOOR_CARRIED = "install: the watermark is carried over as the floor"
    ACK_FLOOR_LOWERED = "install: the watermark falls to the common prefix"
    SUFFIX_DROPPED = "install: entries of our own log are dropped"
    INSTALL_OVERTAKEN = "install: durable only after a newer view was entered"
    START_VIEW_EXTENDS = "start_view: identities above our head are learned"
    START_VIEW_TOO_SHORT = "start_view: ends below what later views committed"
    LATE_PROOF_VOID = "install: a proof of the log before it becomes durable later and is void"
    # 7, restart.
    TORN_TAIL = "recovery: a record that was never acknowledged is torn or lost"
    FAULT_FOUND = "recovery: an acknowledged record is unreadable"
    FOUND_AGAIN = "recovery: a record without a proof is written again"
    OLD_LEFTOVER = "recovery: a record of a truncated suffix is left aside"
    PROOF_VOID = "recovery: the newest proof is of an older log"
    IDENTITY_UNKNOWN = "recovery: an acknowledged op whose identity nobody here knows"
    IDENTITY_BY_CHILD = "recovery: an unreadable op is named by the record above it"
    COMMIT_FROM_RECORD = "recovery: the commit point is learned from a record"
    AMNESIA = "recovery: no proof is left, nothing may be promised"
    AMNESIA_ENDED = "recovery: an amnesiac installs a log and is bound by all of it"
    EX_PRIMARY = "recovery: the primary of this very view, which may not lead it again"
    RESUMED_VIEW_CHANGE = "recovery: a view change goes on"
    CHECKPOINT_FALLBACK = "recovery: our checkpoint is damaged, the certified one loads or there is none yet"
    STATE_LOST = "recovery: no checkpoint loads"
    # 7.5, disks.
    RECORD_LOST = "disk: a record that was held is unreadable"
    RECORD_REWRITTEN = "disk: a record that was lost is still in memory"
    BASE_RAISED = "disk: a record below our own checkpoint is given up"
    # 8.1, repair.
    IDENTITIES_ASKED = "repair: identities below the commit point are asked for"
    IDENTITIES_REFUSED = "repair: a list of identities does not end in one that we know"
    COPY_FROM_BACKUP = "repair: a body comes from a backup"
    REPAIR_LATE = "repair: a peer did not answer in time"
    PRIMARY_REPAIRS = "repair: a primary asks for what it lost itself"
    SERVED_FROM_DISK = "repair: a body is read from disk for a peer"
    SERVING_THROTTLED = "repair: a peer took enough of us for now"
    # 8.2, state transfer.
    TRANSFER_LAG = "transfer: begun because the log is too far ahead"
    TRANSFER_FREED = "transfer: begun because the others freed what is needed"
    TRANSFER_DISTRUST = "transfer: begun because the own state is wrong or lost"
    TRANSFER_RETARGETED = "transfer: nobody serves the target, a newer one is taken"
    TRANSFER_OVERTAKEN = "transfer: the log got there first"
    TRANSFER_WAITS = "transfer: a certificate that may be of a later view waits"
    TRANSFER_NEW_LOG = "transfer: our own log chained to a dead op and begins afresh"
    TRANSFER_REPEATED = "transfer: part of it was damaged here and is fetched again"
    CHUNK_GONE = "transfer: a peer does not have a chunk"
    # 9, checkpoints.
    APPLY_WAITS = "checkpoint: applying waits for the one before"
    POINT_PASSED_OVER = "checkpoint: a replay passes over a point within the log that it found"
    CHECKPOINT_RETRIED = "checkpoint: written again after it failed"
    CERTIFIED_HERE = "checkpoint: certified by a quorum heard here"
    CERTIFIED_ELSEWHERE = "checkpoint: certified as somebody told"
    DIVERGED_BY_PROBE = "divergence: seen in a probe"
    DIVERGED_BY_CHECKPOINT = "divergence: seen in a checkpoint"
    LOG_FREED = "checkpoint: the log below the one before is freed"
    PINNED = "checkpoint: one that a peer copies is kept"
    # 10, reads.
    ROUND_SHARED = "read: several wait for one round"
    READ_WAITS_TO_APPLY = "read: confirmed, waits for applying"
    READ_HERE = "read: answered by a backup"
    READ_DROPPED = "read: refused because the view ended"
    READ_REFUSED_UNFIT = "read: refused by a replica whose state may be wrong"
    SNAPSHOT_GONE = "read: the snapshot of a scan is gone"


_reached: set[Mark] = set()


def reach(mark: Mark) -> None:
    """Note that a branch was taken."""
    _reached.add(mark)


def take_reached() -> frozenset[Mark]:
    """Return what was reached since the last call, in this process, and forget it."""
    taken = frozenset(_reached)
    _reached.clear()
    return taken
