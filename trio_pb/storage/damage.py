"""What is damaged in a data directory, and what a replica that started there would do about it.

The verdicts are those of PROTOCOL 7.1 and 7.6, told per place: a damaged acknowledged record is
fetched from peers, one that was never acknowledged is forgotten, and what has an intact copy
elsewhere does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import attrs

from trio_pb.core.prepare import PrepareId
from trio_pb.core.recovery import Recovered
from trio_pb.storage import identity as identity_file
from trio_pb.storage import proofs, superblock
from trio_pb.storage.extents import PageState
from trio_pb.storage.identity import IDENTITY_FILE
from trio_pb.storage.inspect import Gap, Located, ProofCopy, Survey
from trio_pb.storage.inspect_checkpoints import ChunkGap
from trio_pb.storage.journal import LOG_FOLDER
from trio_pb.storage.packs import CHECKPOINT_FOLDER
from trio_pb.storage.proofs import PROOFS_FILE
from trio_pb.storage.superblock import SUPERBLOCK_FILE

__all__ = ["ACTIONS", "Finding", "Verdict", "find_checkpoint_damage", "find_damage"]


class Verdict(StrEnum):
    """What becomes of a damaged place."""

    HEALED = "healed"
    SPARED = "spared"
    REPAIR = "repair"
    REPLAY = "replay"
    TRANSFER = "state transfer"
    FORGOTTEN = "never acknowledged"
    UNUSED = "not needed"
    AMNESIA = "amnesia"
    LOST = "disk lost"
    CONTRADICTION = "contradiction"


ACTIONS = {
    Verdict.HEALED: "the next start writes it again from the intact copies",
    Verdict.SPARED: "an intact copy elsewhere is read instead",
    Verdict.REPAIR: "part of its log: fetched from its peers",
    Verdict.REPLAY: "its checkpoint does not load: an earlier state does, and the log from there",
    Verdict.TRANSFER: "its checkpoint does not load: fetched from its peers",
    Verdict.FORGOTTEN: "a start forgets it: nobody was promised it",
    Verdict.UNUSED: "nothing that the replica needs was there",
    Verdict.AMNESIA: "it forgot what it acknowledged: a start asks all the others",
    Verdict.LOST: "it does not start: replace it, or restore a backup",
    Verdict.CONTRADICTION: "intact parts disagree: keep the directory, replace the replica",
}


@attrs.frozen
class Finding:
    """One damaged place."""

    file: str
    offset: int | None  # None: the file or folder as a whole.
    size: int  # Bytes; 0 when unknown.
    what: str  # What is the matter with it.
    verdict: Verdict
    ops: tuple[int, ...] = ()  # Those of the log that it held: no other place is left for them.


def find_damage(found: Survey) -> tuple[Finding, ...]:
    """Return every damaged place, in the order of identity, superblock, proofs, log, checkpoints."""
    return (
        *_in_identity(found),
        *_in_superblock(found),
        *_in_proofs(found),
        *_in_log(found),
        *find_checkpoint_damage(found),
    )


def _in_identity(found: Survey) -> Iterator[Finding]:
    for copy in found.identity_copies:
        if not copy.is_intact:
            yield Finding(IDENTITY_FILE, copy.offset, identity_file.COPY_SIZE, "copy damaged", Verdict.SPARED)


def _in_superblock(found: Survey) -> Iterator[Finding]:
    verdict = Verdict.LOST if found.image is None else Verdict.HEALED
    for index, copy in enumerate(found.superblock):
        if copy.state is not PageState.INTACT:
            what = f"copy {index} {copy.state}"
        elif copy.sequence == found.image_sequence and copy.image == found.image:
            continue
        elif found.image is not None and copy.sequence > found.image_sequence:
            what = f"copy {index} has image {copy.sequence}, which no second copy has"
        elif found.image is not None:
            what = f"copy {index} has the old image {copy.sequence}: its last write is missing"
        else:
            what = f"copy {index} intact, image {copy.sequence}, but no second copy has it"
        yield Finding(SUPERBLOCK_FILE, copy.offset, superblock.COPY_SIZE, what, verdict)


# --- Proofs ---------------------------------------------------------------------------------------


def _in_proofs(found: Survey) -> Iterator[Finding]:
    for copy in found.proofs:
        twin = next(other for other in found.proofs if other.slot == copy.slot and other.copy != copy.copy)
        name = f"slot {copy.slot} copy {copy.copy}"
        if copy.proof is not None:
            if twin.proof is None or copy.proof.sequence >= twin.proof.sequence:
                continue
            what = f"{name} has an older proof than its twin: its last write is missing"
        elif copy.state is PageState.BLANK and twin.state is PageState.BLANK and _may_be_blank(found.proofs, copy.slot):
            continue
        else:
            what = f"{name} {copy.state}"
            if twin.proof is None and found.proof is not None:
                what += ", like its twin: an older proof, or one being written when the replica died"
        verdict = Verdict.AMNESIA if found.proof is None else Verdict.SPARED
        yield Finding(PROOFS_FILE, copy.offset, proofs.COPY_SIZE, what, verdict)


def _may_be_blank(copies: tuple[ProofCopy, ...], slot: int) -> bool:
    """Whether `slot` may never have been written: slots are filled from 0 on, in rotation."""
    if slot == 0 or any(copy.state is not PageState.BLANK for copy in copies if copy.slot >= slot):
        return False
    sequences = [copy.proof.sequence for copy in copies if copy.slot < slot and copy.proof is not None]
    return bool(sequences) and sequences == sorted(sequences)


# --- The log --------------------------------------------------------------------------------------


def _in_log(found: Survey) -> Iterator[Finding]:
    if not found.segments:
        verdict = Verdict.LOST if found.recovered is None else Verdict.AMNESIA
        yield Finding(LOG_FOLDER, None, 0, "no segment file at all", verdict)
    records = found.records
    recovered = found.recovered
    if recovered is None:
        for segment in found.segments:
            for gap in segment.gaps:
                yield Finding(gap.file, gap.offset, gap.size, _describe(gap, ()), Verdict.LOST)
        return
    missing = set(found.missing)
    # First those that say themselves what they were; the others can only have held what is left.
    gaps = _gaps_of(found)
    findings: dict[Gap, Finding] = {}
    for gap in sorted(gaps, key=lambda it: it.id is None):
        findings[gap] = _judge(gap, recovered, records, missing)
        missing -= set(findings[gap].ops)
    yield from (findings[gap] for gap in gaps)
    yield from _without_place(found, records, recovered, missing)
    yield from _broken_chain(recovered, records)


def _gaps_of(found: Survey) -> list[Gap]:
    """Every gap between the ops of its nearest neighbours, in its own segment or the nearest one with a record."""
    gaps: list[Gap] = []
    for index, segment in enumerate(found.segments):
        older = [record for it in found.segments[:index] for record in it.records]
        newer = [record for it in found.segments[index + 1 :] for record in it.records]
        for gap in segment.gaps:
            after, before = gap.after, gap.before
            if after is None and older:
                after = older[-1].header.op
            if before is None and newer:
                before = newer[0].header.op
            gaps.append(attrs.evolve(gap, after=after, before=before))
    return gaps


def _judge(
    gap: Gap,
    recovered: Recovered,
    records: dict[PrepareId, Located],
    missing: set[int],
) -> Finding:
    ops: tuple[int, ...] = ()
    if gap.id is not None:
        op = gap.id.op
        if gap.id in records:
            verdict = Verdict.SPARED
        elif recovered.log.checksum(op) in (None, gap.id.checksum) and op in missing:
            verdict, ops = Verdict.REPAIR, (op,)
        else:
            verdict = Verdict.FORGOTTEN if op > recovered.acked else Verdict.UNUSED
    else:
        low = recovered.log.base.op if gap.after is None else gap.after
        high = recovered.log.head + 1 if gap.before is None else gap.before
        ops = tuple(op for op in range(low + 1, high) if op in missing)
        verdict = Verdict.REPAIR if ops else Verdict.FORGOTTEN if gap.before is None else Verdict.UNUSED
    return Finding(gap.file, gap.offset, gap.size, _describe(gap, ops), verdict, ops)


def _describe(gap: Gap, ops: tuple[int, ...]) -> str:
    held = f"; {_name_ops(ops)} belong{'s' if len(ops) == 1 else ''} here" if ops else ""
    if gap.id is not None:
        return f"record of op {gap.id.op}: head intact, payload damaged"
    if gap.state is PageState.BLANK:
        return f"zeros between records: a write was lost{held}"
    if gap.state in (PageState.MISPLACED, PageState.FOREIGN):
        return f"a record {_home(gap.origin)}{held}"
    return f"no intact record{held}"


def _without_place(
    found: Survey, records: dict[PrepareId, Located], recovered: Recovered, missing: set[int]
) -> Iterator[Finding]:
    """Runs of missing ops for which no damaged place was found."""
    identities = found.ops
    for first, last in _runs(sorted(missing)):
        ops = tuple(range(first, last + 1))
        checksum = identities.get(first - 1)
        before = None if checksum is None else records.get(PrepareId(first - 1, checksum))
        told = ", acknowledged" if first <= recovered.acked else ""
        what = f"no record of {_name_ops(ops)}{told}"
        if before is not None:
            yield Finding(before.file, before.offset + before.size, 0, f"{what}: a write was lost", Verdict.REPAIR, ops)
        elif first == 1 and found.segments:
            yield Finding(found.segments[0].segment.file, 0, 0, f"{what}: a write was lost", Verdict.REPAIR, ops)
        else:
            yield Finding(LOG_FOLDER, None, 0, what, Verdict.REPAIR, ops)


def _broken_chain(recovered: Recovered, records: dict[PrepareId, Located]) -> Iterator[Finding]:
    """INV-16 on disk: each record of the log names the prepare below it."""
    log = recovered.log
    for op in range(log.base.op + 1, log.head + 1):
        checksum, below = log.checksum(op), log.checksum(op - 1)
        record = None if checksum is None else records.get(PrepareId(op, checksum))
        if record is not None and below is not None and record.header.parent != below:
            what = f"record of op {op} names another op {op - 1} than the log has"
            yield Finding(record.file, record.offset, record.size, what, Verdict.CONTRADICTION, (op,))


def _runs(ops: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of consecutive numbers in an ascending list."""
    first = 0
    for index, op in enumerate(ops):
        if index + 1 == len(ops) or ops[index + 1] != op + 1:
            yield ops[first], op
            first = index + 1


def _name_ops(ops: tuple[int, ...]) -> str:
    return f"op {ops[0]}" if len(ops) == 1 else f"ops {ops[0]} to {ops[-1]}"


# --- Checkpoints ----------------------------------------------------------------------------------


def find_checkpoint_damage(found: Survey) -> Iterator[Finding]:
    """Yield the damaged places of the packs, and what the replica's own checkpoint lacks."""
    checkpoints = found.checkpoints
    present = checkpoints.chunks
    missing = _missing_chunks(found)
    recovered = found.recovered
    verdict = Verdict.LOST if recovered is None else Verdict.TRANSFER if recovered.is_state_lost else Verdict.REPLAY
    unexplained = set(missing)
    is_anywhere = False
    for pack in checkpoints.packs:
        for gap in pack.gaps:
            if gap.digest is None:
                is_anywhere = True
                what = _describe_chunk(gap) + (f"; the checkpoint lacks {len(missing)}" if missing else "")
                yield Finding(gap.file, gap.offset, gap.size, what, verdict if missing else Verdict.UNUSED)
            else:
                unexplained.discard(gap.digest)
                fate = Verdict.SPARED if gap.digest in present else verdict if gap.digest in missing else Verdict.UNUSED
                yield Finding(gap.file, gap.offset, gap.size, _describe_chunk(gap), fate)
    for digest in [] if is_anywhere else sorted(unexplained, key=list(missing).index):
        yield Finding(CHECKPOINT_FOLDER, None, 0, f"no record of {missing[digest]}, {_short(digest)}", verdict)


def _missing_chunks(found: Survey) -> dict[bytes, str]:
    """What the replica's own checkpoint lacks, and what each is."""
    if found.image is None or found.image.checkpoint.op == 0:
        return {}
    own = found.image.checkpoint
    checkpoint = found.checkpoints.manifest(own)
    if checkpoint is None:
        return {own.digest: f"the manifest of checkpoint {own.op}"}
    return dict.fromkeys(checkpoint.missing, f"a chunk of checkpoint {own.op}")


def _describe_chunk(gap: ChunkGap) -> str:
    if gap.digest is not None:
        return f"chunk {_short(gap.digest)}: head intact, bytes damaged"
    if gap.state is PageState.BLANK:
        return "zeros between chunks: a write was lost"
    if gap.state in (PageState.MISPLACED, PageState.FOREIGN):
        return f"a chunk {_home(gap.origin)}"
    return "no intact chunk"


def _short(digest: bytes) -> str:
    return digest.hex()[:12]


def _home(origin: str) -> str:
    return f"written for {origin}" if origin else "of another disk, file or life of this one"
