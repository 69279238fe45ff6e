"""Shadow oracles of reads: is an answer fresh, and does the cluster vouch for it, at the moment it is given (INV-23).

A client notices a stale answer only if it, or somebody it spoke to, knows better. Here everything is known: what
was committed anywhere when the question came, and who has spoken in which view since.
"""

from __future__ import annotations

import attrs

from sim.oracles.facts import Facts, violate
from sim.oracles.watch import Oracle
from trio_pb.core.messages import ClientMessage, CommitOk, PrepareOk, Read, ReadIndexOk, Reply, ServerMessage
from trio_pb.core.ports import Send, Start
from trio_pb.core.state import State, primary_of

__all__ = ["PositionsAreOwn", "ReadsAreConfirmed", "ReadsAreFresh", "Voices"]


@attrs.frozen
class _Question:
    """What names a read at one replica. It may be sent twice: then the first time counts."""

    client: bytes
    number: int


class _JudgesReads(Oracle):
    """Remembers when questions came. Later pages of a scan are none: they show the state of its first."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._asked: dict[int, dict[_Question, int]] = {}  # Replica -> question -> its moment.

    def on_start(self, replica: int, start: Start) -> None:
        """Nobody waits at a new process."""
        self._asked.pop(replica, None)

    def on_from_client(self, replica: int, message: ClientMessage) -> None:
        """Remember."""
        if type(message) is Read and not message.cursor:
            question = _Question(message.client, message.number)
            self._asked.setdefault(replica, {}).setdefault(question, self._moment())

    def on_to_client(self, replica: int, message: ServerMessage) -> None:
        """Judge answers."""
        if type(message) is Reply and message.session == 0:
            moment = self._asked.get(replica, {}).get(_Question(message.client, message.number))
            if moment is not None:
                self._judge(replica, message, moment)

    def _moment(self) -> int:
        raise NotImplementedError

    def _judge(self, replica: int, answer: Reply, moment: int) -> None:
        raise NotImplementedError


class ReadsAreFresh(_JudgesReads):
    """INV-23: an answer shows all that was committed anywhere when the question came (10.1, 10.2)."""

    def _moment(self) -> int:
        return self.facts.committed_op

    def _judge(self, replica: int, answer: Reply, moment: int) -> None:
        if answer.op < moment:
            violate(
                "INV-23", f"R{replica} answers a read from op {answer.op}; op {moment} was committed before it came"
            )


class PositionsAreOwn(_JudgesReads):
    """INV-23: a backup answers from a position that was told to this boot of it, after the question came (10.2, T-38).

    An answer to an earlier boot, or to an earlier question, may be older than what others have heard of meanwhile.
    Judged as the answer leaves; a query is answered in the step that asks it, so nobody steps down in between.
    """

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._told = 0  # So far: the time here.
        self._newest: dict[tuple[int, int], int] = {}  # (replica, boot) -> when it was last told a position.
        self._boots: dict[int, int] = {}
        self._leads: dict[int, bool] = {}

    def on_start(self, replica: int, start: Start) -> None:
        """Another boot begins."""
        super().on_start(replica, start)
        self._boots[replica] = start.superblock.boot + 1

    def on_step(self, replica: int, state: State) -> None:
        """A primary needs nobody to tell it a position."""
        self._leads[replica] = state.is_primary

    def on_read_index_ok(self, _: int, send: Send, message: ReadIndexOk) -> None:
        """Somebody is told."""
        self._told += 1
        for replica in send.replicas:
            self._newest[replica, message.boot] = self._told

    def _moment(self) -> int:
        return self._told

    def _judge(self, replica: int, answer: Reply, moment: int) -> None:
        if self._leads[replica] or self._newest.get((replica, self._boots[replica]), 0) > moment:
            return
        violate(
            "INV-23", f"R{replica} answers a read from op {answer.op}; nobody told this boot a position since it came"
        )


class Voices(Oracle):
    """Who has spoken in which view, and when: acknowledgements and answers to heartbeats, as they leave."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self.said = 0  # So far: the time here.
        self._spoke: dict[int, dict[int, int]] = {}  # View -> replica -> when it last said something in it.

    def on_prepare_ok(self, replica: int, send: Send, _: PrepareOk) -> None:
        """It was still in that view."""
        self._speak(replica, send.envelope.view)

    def on_commit_ok(self, replica: int, send: Send, _: CommitOk) -> None:
        """The same."""
        self._speak(replica, send.envelope.view)

    def has_quorum_since(self, moment: int) -> bool:
        """Whether a read quorum, its primary counted without a voice, spoke in one view since then."""
        # Where every view change needs the primary itself it may say so alone.
        return self.facts.quorums.read <= 1 or any(self._is_quorum(view, moment) for view in reversed(self._spoke))

    def _speak(self, replica: int, view: int) -> None:
        self.said += 1
        self._spoke.setdefault(view, {})[replica] = self.said

    def _is_quorum(self, view: int, moment: int) -> bool:
        others = [when > moment for replica, when in self._spoke[view].items() if replica != primary_of(view)]
        return 1 + sum(others) >= self.facts.quorums.read


class ReadsAreConfirmed(Voices, _JudgesReads):
    """INV-23: since the question came, a read quorum acknowledged or answered heartbeats in one view (10.1 (c)).

    Its primary needs no voice of its own. What they sent may not have arrived: this demands less than the rule.
    """

    def _moment(self) -> int:
        return self.said

    def _judge(self, replica: int, answer: Reply, moment: int) -> None:
        if not self.has_quorum_since(moment):
            violate(
                "INV-23",
                f"R{replica} answers a read from op {answer.op}, and no read quorum spoke in one view since it came",
            )
