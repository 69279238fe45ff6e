"""`python -m tests.fuzz`: fuzz decoders, replay inputs, look after the corpora (docs/how-to/fuzz-the-decoders.md)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz import campaign, engine
from tests.fuzz.catalogue import ROOMS, load

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
FOUND = HERE.parent.parent / ".trio-pb" / "fuzz"  # What runs find, until it is kept: a folder per harness.


def main() -> int:
    """Do what the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz what decodes bytes from outside.")
    parser.add_argument("harness", nargs="*", help="names of harnesses; all of them by default")
    parser.add_argument("--list", action="store_true", help="name the harnesses")
    parser.add_argument("--seconds", type=int, default=60, help="of fuzzing, for each harness (60)")
    parser.add_argument("--jobs", type=int, default=2, help="harnesses at a time (2)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="check one input instead; needs no atheris")
    parser.add_argument("--seeds", action="store_true", help="write the real encodings of the corpora anew")
    parser.add_argument("--keep", action="store_true", help="take what runs found into the corpora")
    told = parser.parse_args()
    for name in told.harness:
        if name not in ROOMS:
            parser.error(f"there is no harness {name!r}; there are: {', '.join(ROOMS)}")
    if told.list or told.replay is not None or told.seeds or told.keep:
        return _look_after(told)
    names: list[str] = told.harness
    if not engine.is_installed():
        print("atheris is not installed: `make fuzz` installs it, where there is a build of it", file=sys.stderr)
        return 2
    if len(names) == 1:
        engine.fuzz(names[0], told.seconds, CORPUS / names[0], FOUND / names[0])
    return campaign.run(names or list(ROOMS), told.seconds, told.jobs, FOUND)


def _look_after(told: argparse.Namespace) -> int:
    """Do what needs no fuzzing, and would import the decoders before they are instrumented."""
    from tests.fuzz import corpus

    for name in told.harness or ROOMS:
        harness = load(name)
        if told.replay is not None:
            harness.check(told.replay.read_bytes())
            print(f"{name}: passes")
        elif told.seeds:
            print(f"{name:<12} {corpus.write_seeds(harness, CORPUS / name)} seeds")
        elif told.keep:
            new, count = corpus.keep(harness, CORPUS / name, FOUND / name)
            print(f"{name:<12} {count} inputs, {new} of them new")
        else:
            print(f"{name:<12} {harness.about}")
    return 0


sys.exit(main())
