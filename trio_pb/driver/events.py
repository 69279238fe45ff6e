"""What an operator must see: damage, repair, divergence, a full disk, in plain words in the log.

The core tells of events by name, the disk of what it found. Most of it is everyday work and only logged
at DEBUG; what is listed here is worth a warning, or an error when somebody has to act. All of it is counted,
and a status report has the counters.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable

import trio

from trio_pb.core.ports import ChunkStored, Input, Scrubbed, Start, SyncState, Trace
from trio_pb.driver.opening import CopiesDamaged

__all__ = ["EventLog"]

logger = logging.getLogger(__name__)

REPEAT_SECONDS = 10.0  # The same words are not said more often.

# Of events of the core: how loud, and the words, filled with the event's fields.
_LOUD: dict[str, tuple[int, str]] = {
    "diverged": (
        logging.ERROR,
        "DIVERGED: the state after op {op} differs from what a majority has: nothing is served from it any more; it is "
        "rebuilt from a certified checkpoint. Tell the authors: equal orders must make equal states",
    ),
    "checkpoint_lost": (
        logging.WARNING,
        "the newest checkpoint on this disk, of op {op}, does not load: it goes on from that of op {start}, and "
        "executes the log from there. Look after the disk",
    ),
    "state_lost": (
        logging.ERROR,
        "no checkpoint on this disk loads, the newest was of op {op}: nothing is executed before one was copied from "
        "the others. Its promises about the log stand. Look after the disk",
    ),
    "sync_begun": (logging.WARNING, "state transfer begins: copies the checkpoint of op {op} from the others"),
    "selection_blocked": (
        logging.ERROR,
        "no view can begin: op {op} may have been acknowledged, and nobody can tell. All replicas answer; damaged "
        "disks hide it: restore a directory that has it",
    ),
    "selection_undecided": (
        logging.WARNING,
        "no view can begin yet: op {op} may have been acknowledged, and those who could tell are down: start them",
    ),
    "disk_full": (
        logging.ERROR,
        "disk full: new orders are refused with disk_full, reads go on. Free space: it goes on by itself",
    ),
    "disk_has_space": (logging.WARNING, "the disk has space again: orders are taken again"),
    "checkpoint_failed": (
        logging.ERROR,
        "the checkpoint of op {op} could not be written, the disk is full: it is tried again, and until then new "
        "orders are refused with disk_full. Reads go on",
    ),
    "identity_refused": (
        logging.ERROR,
        "replica {replica} came with another identity than the one known here: its directory was formatted anew. It is "
        "refused for ever: restore its old directory, or run on without it",
    ),
}


class EventLog:
    """Says and counts what happens to one replica in one boot."""

    def __init__(
        self,
        start: Start,
        copies: CopiesDamaged,
        *,
        counters: Callable[[], tuple[tuple[str, int], ...]],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        image = start.superblock
        self._name = f"replica {image.replica}"
        self._core_counters = counters
        self._clock = clock  # Seconds.
        self._said: dict[str, float] = {}  # Words -> when.
        self._acked = 0  # When this boot began: a record at or below that has to be fetched was damaged.
        self._records_lost: set[int] = set()  # Ops; above that.
        self._records_to_repair = 0  # Found damaged when this boot began.
        self._chunks_lost: set[bytes] = set()  # Digests.
        self._bytes_before = 0  # Of chunks received when the present transfer began.
        self.counters: Counter[str] = Counter(
            superblock_copies_damaged=copies.superblock,
            proof_copies_damaged=copies.proofs,
            records_damaged=0,
            records_repaired=0,
            chunks_damaged=0,
            chunks_repaired=0,
        )
        if copies.superblock:
            self._say(logging.WARNING, f"{copies.superblock} of the superblock's copies were damaged: written again")
        if copies.proofs:
            what = "amnesia, it asks all the others" if start.scan.proof is None else "the newest proof was intact"
            self._say(logging.WARNING, f"{copies.proofs} copies of proofs were damaged: {what}")
        if image.untrusted:
            certified = image.certified.op
            text = (
                f"UNTRUSTED: its state had diverged before; it is rebuilt from the certified checkpoint, op {certified}"
            )
            self._say(logging.ERROR, text)
        if start.checkpoint is not None and start.checkpoint.op != image.checkpoint.op:
            self.counters["chunks_damaged"] += 1
            own, loaded = image.checkpoint.op, start.checkpoint.op
            text = f"the checkpoint of op {own} is damaged; it goes on from that of op {loaded}"
            self._say(logging.WARNING, text)

    # --- From the core --------------------------------------------------------------------------

    def on_trace(self, trace: Trace) -> None:
        """Something happened in the core."""
        loud = _LOUD.get(trace.event)
        fields = dict(trace.fields)
        if loud is not None:
            self._say(loud[0], loud[1].format(**fields))
        if trace.event == "sync_begun":
            self._bytes_before = self._bytes_received()
        elif trace.event == "state_transferred":
            size = self._bytes_received() - self._bytes_before
            self._say(logging.WARNING, f"state transfer done: has the state after op {fields['op']}, {size} bytes came")
        elif trace.event == "recovered":
            self._on_recovered(fields["acked"], fields["faults"])
        elif trace.event == "record_lost":
            self._on_record_lost(fields["op"])
        elif trace.event == "repaired":
            self._on_repaired(fields["op"])
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s %s", trace.event, " ".join(f"{name}={value}" for name, value in trace.fields))

    def _on_recovered(self, acked: int, faults: int) -> None:
        self._acked = acked
        if faults:
            self._records_to_repair = faults
            self.counters["records_damaged"] += faults
            self._say(logging.WARNING, f"{faults} acknowledged records are damaged or missing: fetched from the others")

    def _on_record_lost(self, op: int) -> None:
        self.counters["records_damaged"] += 1
        self._records_lost.add(op)
        self._say(logging.WARNING, f"the record of op {op} is damaged: it is fetched from the others")

    def _on_repaired(self, op: int) -> None:
        if op in self._records_lost:
            self._records_lost.discard(op)
        elif op <= self._acked and self._records_to_repair:
            self._records_to_repair -= 1
        else:
            return  # An op that was on its way to us when its turn came.
        self.counters["records_repaired"] += 1
        if not self._records_lost and not self._records_to_repair:
            self._say(
                logging.WARNING, f"{self.counters['records_repaired']} damaged records were repaired, all of them"
            )

    def _bytes_received(self) -> int:
        return dict(self._core_counters()).get("chunk_bytes_received", 0)

    # --- From the disk --------------------------------------------------------------------------

    def on_completions(self, inputs: Iterable[Input]) -> None:
        """The disk did something."""
        for completion in inputs:
            if type(completion) is Scrubbed:
                self._on_scrubbed(completion)
            elif type(completion) is SyncState:
                missing = completion.missing or ()
                size = sum(chunk.size for chunk in missing)
                op = completion.target.op
                self._say(
                    logging.WARNING, f"checkpoint of op {op}: {len(missing)} chunks, {size} bytes are not here yet"
                )
            elif type(completion) is ChunkStored and completion.digest in self._chunks_lost:
                self._chunks_lost.discard(completion.digest)
                self.counters["chunks_repaired"] += 1
                self._say(logging.WARNING, "a damaged chunk of a checkpoint was repaired")

    def _on_scrubbed(self, found: Scrubbed) -> None:
        for chunk in found.chunks:
            self._chunks_lost.add(chunk.digest)
            self.counters["chunks_damaged"] += 1
            self._say(logging.WARNING, "a chunk of a checkpoint is damaged: it is fetched from the others")
        if found.proofs:
            self.counters["proof_copies_damaged"] += 1
            self._say(logging.WARNING, "a copy of the newest proof is damaged: a fresh one is written")
        if found.superblock:
            self.counters["superblock_copies_damaged"] += 1
            self._say(logging.WARNING, "a copy of the superblock is damaged: it is written again")

    def _say(self, level: int, text: str) -> None:
        now = self._clock()
        if now - self._said.get(text, -REPEAT_SECONDS) >= REPEAT_SECONDS:
            self._said[text] = now
            logger.log(level, "%s: %s", self._name, text)
