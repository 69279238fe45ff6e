"""`trio-pb checkpoint`: which checkpoints a data directory holds, whether they are whole, how two differ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import App, Parameter

from trio_pb.cli.log_tools import finding_fields, print_findings, right, survey_directory
from trio_pb.cli.offline import Directory
from trio_pb.cli.output import ExitCode, Flag, new_table, print_json, print_table
from trio_pb.core.manifest import Chunk, Manifest
from trio_pb.core.messages import CheckpointId
from trio_pb.errors import ConfigError
from trio_pb.storage.damage import find_checkpoint_damage
from trio_pb.storage.inspect import Survey
from trio_pb.storage.inspect_checkpoints import CheckpointSurvey, ManifestSurvey

__all__ = ["app"]

app = App(name="checkpoint", help="Read the checkpoints on disk, offline.")

DIGITS = 12  # Of a digest, where people read it.


@app.command
def inspect(directory: Directory, /, *, json: Flag = False) -> None:
    """Show which checkpoints a data directory holds, and what takes up the space.

    Nothing is changed, and no lock is taken.

    Args:
        directory: Data directory of a replica, best one that is stopped.
        json: Print one JSON object.
    """
    found = survey_directory(directory)
    checkpoints = found.checkpoints
    if json:
        fields = {
            "directory": str(directory),
            "checkpoints": [_manifest_fields(found, manifest) for manifest in checkpoints.manifests],
            "packs": _pack_fields(checkpoints),
            "strangers": list(checkpoints.strangers),
        }
        print_json(fields)
        return
    if not checkpoints.manifests:
        print("no checkpoint")
    else:
        table = right(new_table("op", "digest", "role", "chunks", "missing", "bytes"), 0, 3, 4, 5)
        for manifest in checkpoints.manifests:
            it = _manifest_fields(found, manifest)
            digest = manifest.id.digest.hex()[:DIGITS]
            figures = (str(it[name]) for name in ("chunks", "missing", "bytes"))
            table.add_row(str(manifest.id.op), digest, _role(found, manifest.id), *figures)
        print_table(table)
    if checkpoints.packs:
        print()
        names = ("file", "bytes", "records", "live_bytes", "dead_bytes", "damaged_bytes")
        table = right(new_table(*(name.removesuffix("_bytes") for name in names)), *range(1, len(names)))
        for pack in _pack_fields(checkpoints):
            table.add_row(*(str(pack[name]) for name in names))
        print_table(table)
    for file in checkpoints.strangers:
        print(f"{file}: no pack; it is ignored")


@app.command
def verify(directory: Directory, /, *, json: Flag = False) -> int:
    """Check the digest of every chunk and manifest, and that the replica's own checkpoint is whole.

    Nothing is changed. Exit code 1 if anything is damaged, 4 if a replica would not start on it.

    Args:
        directory: Data directory of a replica, best one that is stopped.
        json: Print one JSON object.
    """
    found = survey_directory(directory)
    findings = tuple(find_checkpoint_damage(found))
    records = sum(len(pack.chunks) for pack in found.checkpoints.packs)
    if json:
        print_json(
            {
                "directory": str(directory),
                "intact": not findings,
                "would_start": found.recovered is not None,
                "records": records,
                "damage": [finding_fields(finding) for finding in findings],
            }
        )
    else:
        print_findings(findings)
        outcome = f"{len(findings)} damaged" if findings else "all intact"
        print(f"{len(found.checkpoints.manifests)} checkpoints, {records} records of chunks: {outcome}.")
        if found.refusal:
            print(f"A replica would NOT start here: {found.refusal}.")
    if found.recovered is None:
        return ExitCode.LOST
    return ExitCode.FAILED if findings else ExitCode.OK


@app.command
def diff(
    directory: Directory,
    other: Annotated[Path, Parameter(name="DIR2")],
    /,
    *,
    json: Flag = False,
) -> int:
    """Compare the newest checkpoint of two data directories, place by place.

    Nothing is changed. Exit code 1 if they differ.

    Args:
        directory: Data directory of a replica.
        other: Data directory of another replica of the cluster, or of the same at another time.
        json: Print one JSON object.
    """
    ours, theirs = survey_directory(directory), survey_directory(other)
    left, right_ = _own(directory, ours), _own(other, theirs)
    if ours.identity.cluster != theirs.identity.cluster:
        raise ConfigError(f"{directory} and {other} belong to different clusters; name two of one")
    differing = _differences(left.manifest, right_.manifest)
    to_left = _transfer_bytes(ours.checkpoints, right_)
    to_right = _transfer_bytes(theirs.checkpoints, left)
    if json:
        print_json(
            {
                "equal": left.id == right_.id,
                "checkpoints": [
                    {"directory": str(path), "op": it.id.op, "digest": it.id.digest.hex(), "bytes": it.chunk_bytes}
                    for path, it in ((directory, left), (other, right_))
                ],
                "differing": [_difference_fields(it) for it in differing],
                "transfer_bytes": {"to_dir": to_left, "to_dir2": to_right},
            }
        )
    else:
        for path, it in ((directory, left), (other, right_)):
            print(f"{path}: checkpoint {it.id.op}, {it.id.digest.hex()[:DIGITS]}, {it.chunk_bytes} bytes")
        if differing:
            print()
            table = right(new_table("part", "place", "bytes", "bytes in DIR2"), 1, 2, 3)
            for change in differing:
                sizes = ("-" if chunk is None else str(chunk.size) for chunk in (change.left, change.right))
                table.add_row(change.part, str(change.place), *sizes)
            print_table(table)
        print()
        if left.id == right_.id:
            print("The checkpoints are equal.")
        else:
            print(f"{len(differing)} chunks differ.")
            print(f"A state transfer would move {to_left} bytes to {directory}, or {to_right} bytes to {other}.")
    return ExitCode.OK if left.id == right_.id else ExitCode.FAILED


@attrs.frozen
class Difference:
    """A place that holds different chunks, or one only."""

    part: str  # "sessions" or "application".
    place: int
    left: Chunk | None
    right: Chunk | None


def _differences(left: Manifest, right: Manifest) -> list[Difference]:
    found: list[Difference] = []
    for part, ours, theirs in (
        ("sessions", left.sessions, right.sessions),
        ("application", left.application, right.application),
    ):
        at_left = {chunk.place: chunk for chunk in ours}
        at_right = {chunk.place: chunk for chunk in theirs}
        for place in sorted(at_left.keys() | at_right.keys()):
            one, two = at_left.get(place), at_right.get(place)
            if one is None or two is None or one.digest != two.digest:
                found.append(Difference(part, place, one, two))
    return found


def _difference_fields(it: Difference) -> dict[str, object]:
    chunks = [chunk and {"digest": chunk.digest.hex(), "bytes": chunk.size} for chunk in (it.left, it.right)]
    return {"part": it.part, "place": it.place, "dir": chunks[0], "dir2": chunks[1]}


def _transfer_bytes(receiver: CheckpointSurvey, target: ManifestSurvey) -> int:
    """Bytes of the manifest and the chunks of `target` that `receiver` does not hold under any checkpoint."""
    present = receiver.chunks
    chunks = {chunk.digest: chunk.size for chunk in target.manifest.chunks if chunk.digest not in present}
    return sum(chunks.values()) + (0 if target.id.digest in present else target.size)


def _own(directory: Path, found: Survey) -> ManifestSurvey:
    """The replica's own checkpoint.

    Raises:
        ConfigError: there is none, or its manifest is lost.
    """
    if found.image is None:
        raise ConfigError(f"{directory}: its superblock is lost; see trio-pb log verify {directory}")
    if found.image.checkpoint.op == 0:
        raise ConfigError(f"{directory}: it has no checkpoint yet, so there is nothing to compare")
    manifest = found.checkpoints.manifest(found.image.checkpoint)
    if manifest is None:
        raise ConfigError(
            f"{directory}: the manifest of checkpoint {found.image.checkpoint.op} is lost; see trio-pb checkpoint "
            f"verify {directory}"
        )
    return manifest


def _role(found: Survey, checkpoint: CheckpointId) -> str:
    """What the superblock says of it."""
    if found.image is None:
        return "unknown"
    names = [("own", found.image.checkpoint), ("certified", found.image.certified)]
    return " ".join(name for name, id_ in names if id_ == checkpoint) or "other"


def _manifest_fields(found: Survey, manifest: ManifestSurvey) -> dict[str, object]:
    state = manifest.manifest.state
    return {
        "op": manifest.id.op,
        "digest": manifest.id.digest.hex(),
        "role": _role(found, manifest.id).split(),
        "checksum": state.checksum.hex(),
        "release": state.release,
        "session_chunks": len(manifest.manifest.sessions),
        "application_chunks": len(manifest.manifest.application),
        "chunks": len(manifest.manifest.chunks),
        "missing": len(manifest.missing),
        "bytes": manifest.chunk_bytes,
        "manifest_bytes": manifest.size,
    }


def _pack_fields(checkpoints: CheckpointSurvey) -> list[dict[str, object]]:
    newest = checkpoints.chunks
    packs: list[dict[str, object]] = []
    for pack in checkpoints.packs:
        live = [it for it in pack.chunks if newest[it.digest] == it and it.digest in checkpoints.live]
        live_bytes = sum(it.size for it in live)
        packs.append(
            {
                "file": pack.pack.file,
                "bytes": pack.size,
                "records": len(pack.chunks),
                "live_bytes": live_bytes,
                "dead_bytes": sum(it.size for it in pack.chunks) - live_bytes,
                "damaged_bytes": sum(gap.size for gap in pack.gaps),
            }
        )
    return packs
