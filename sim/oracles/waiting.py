"""Why a replica does not get on: which quorum, prepare, checkpoint or disk it waits for, in words."""

from __future__ import annotations

from typing import Any

from trio_pb.core.log import Hold
from trio_pb.core.messages import Status
from trio_pb.core.replica import Replica
from trio_pb.core.state import primary_of

__all__ = ["waits_for"]


def waits_for(core: Replica) -> list[str]:
    """What keeps a running replica from its next step, most basic first; empty when it is at rest."""
    return [reason for reason in (_of_view(core), _of_commit(core), _of_apply(core), _of_journal(core)) if reason]


def _names(replicas: Any) -> str:
    return ", ".join(f"R{replica}" for replica in sorted(replicas)) or "nobody"


def _of_view(core: Replica) -> str:
    state = core.state
    quorum = state.quorums.view_change
    wishes, views = vars(core.wishes), vars(core.view_change)
    if state.status is Status.UNBORN:
        return f"all members, to know it; so far {_names(vars(core.birth)['_pinned_us'])} do"
    if state.status is Status.AMNESIAC:
        return f"R{primary_of(state.view)}, to tell it the log of view {state.view}: it lost its own"
    if state.status is Status.VIEW_CHANGE and primary_of(state.view) != state.replica:
        return f"R{primary_of(state.view)}, to start view {state.view}"
    if state.status is Status.VIEW_CHANGE:
        stated = views["_stated"]
        if len(stated) < quorum:
            return f"a view change quorum of {quorum} for view {state.view}; {_names(stated)} stated a log"
        if views["_selected"] is None:
            return f"more logs for view {state.view}: those of {_names(stated)} do not decide"
        if views["_installing"] is not None:
            return f"its superblock, to begin view {state.view}"
        return f"prepares of the log that view {state.view} begins with"
    if wishes["target"] is not None:
        return f"a view change quorum of {quorum} to wish for view {wishes['target']}; {_names(wishes['_heard'])} did"
    return ""


def _of_commit(core: Replica) -> str:
    state = core.state
    if not state.is_primary or state.commit_max >= state.log.head:
        return ""
    following = state.commit_max + 1
    acked = [replica for replica, op in core.normal.acked_ops.items() if op >= following]
    return f"a replication quorum of {state.quorums.replication} to hold op {following}; {_names(acked)} hold it"


def _of_apply(core: Replica) -> str:
    state = core.state
    if vars(core.transfer)["_target"] is not None:
        return f"chunks of the checkpoint of op {vars(core.transfer)['_target'].op}"
    if state.applied >= state.commit_max:
        return ""
    following = state.applied + 1
    if following > state.log.head:
        return f"op {following}: its log ends at op {state.log.head}"
    if following <= state.log.base.op:
        return f"a state transfer: op {following} is below its log"
    if state.log.hold(following) is Hold.MISSING:
        return f"the prepare of op {following}"
    return f"its own application of op {following}, or the checkpoint before it"


def _of_journal(core: Replica) -> str:
    state = core.state
    if state.log.durable_prefix < state.log.head:
        hole = state.log.durable_prefix + 1
        lacks = state.log.hold(hole) is Hold.MISSING
        return f"{'the prepare of' if lacks else 'its disk, to write'} op {hole}"
    if state.is_primary and state.log.head >= state.certified.op + state.limits.wal_ops:
        return f"a checkpoint quorum of {state.quorums.certify}; the newest certificate is of op {state.certified.op}"
    return ""
