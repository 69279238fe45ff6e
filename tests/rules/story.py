"""What happened in a world of rules, told: each step, and below it what the replicas said and did in answer."""

from __future__ import annotations

from collections.abc import Sequence

from tests.core.hand_cluster import describe
from trio_pb.core.messages import Ping, Pong, Reject
from trio_pb.core.ports import Apply, Send, SuperblockWrite, ToClient, WalAppend

__all__ = ["tell"]

LINES_MAX = 400  # The newest: what led to a failure stands at the end.


def tell(events: Sequence[tuple[str, object]]) -> str:
    """One line for each: who, and its output; or nobody, and a step in words."""
    lines: list[str] = []
    said: set[str] = set()  # Since the last step: what is done again and again is told once.
    for who, what in events:
        if not who:
            said.clear()
        line = _line(who, what)
        if line and line not in said:
            said.add(line)
            lines.append(f"  {line}")
    cut = ["  ..."] if len(lines) > LINES_MAX else []
    return "\n".join(["What happened:", *cut, *lines[-LINES_MAX:]])


def _line(who: str, what: object) -> str:
    match what:
        case str():
            return what
        case Send() if not isinstance(what.message, Ping | Pong):
            to = " and ".join(f"R{target}" for target in what.replicas)
            return f"    {who} > {to}: {describe(what.message, what.envelope)}"
        case WalAppend():
            ops = ", ".join(f"op {prepare.op}" for prepare in what.prepares) or "no record"
            proof = f"a proof of op {what.proof.acked}" if what.proof is not None else "no proof"
            return f"    {who} hands its journal {ops} and {proof}"
        case SuperblockWrite():
            image = what.image
            return f"    {who} hands its disk a superblock: view {image.view}, log of view {image.log_view}"
        case Apply():
            return f"    {who} executes op {what.op}"
        case ToClient():
            answer = what.message
            if isinstance(answer, Reject):
                return f"    {who} refuses C{what.connection} number {answer.number}: {answer.code.name.lower()}"
            return f"    {who} answers C{what.connection} number {answer.number}, at op {answer.op}"
        case _:
            return ""
