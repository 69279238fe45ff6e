"""Worked sequences (PROTOCOL Appendix A) as transcripts: command files with what three cores answered.

`TRIO_PB_REWRITE=1 python -m pytest tests/core/test_transcripts.py` writes them anew; the diff is the review.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.core.hand_cluster import run_script

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


def test_there_are_transcripts() -> None:
    """An empty folder would pass for a green one."""
    assert len(TRANSCRIPTS) >= 6


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    """Three cores do today what they did when somebody last read and agreed."""
    before = path.read_text(encoding="utf-8")
    after = run_script(before)
    if os.environ.get("TRIO_PB_REWRITE") == "1":
        path.write_text(after, encoding="utf-8")
        return
    assert after == before
