"""The page on the twelve mistakes shows the code that makes them, and the stories as they are printed.

`TRIO_PB_REWRITE=1 python -m pytest tests/docs/test_mistakes_page.py` writes both anew; the diff is the review.
"""

from __future__ import annotations

import inspect
import os
import re
from textwrap import dedent

import pytest

from sim.naive.mistakes import MISTAKES
from sim.naive.scripts import SCRIPTS
from tests.docs.pages import ROOT, blocks
from trio_pb.cli.main import call

PAGE = ROOT / "docs" / "explanation" / "mistakes.md"
BLOCK = re.compile(r"```(py|text)\n(.*?)```\n", re.DOTALL)


def expected(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    """The blocks of the page, in its order: of each mistake its methods, then its story."""
    found: list[tuple[str, str]] = []
    for name in SCRIPTS:
        source = inspect.getsource(MISTAKES[name])
        _, _, methods = source.partition('"""\n\n')  # After the docstring of the class, which is the text above.
        found.append(("py", dedent(methods).replace("\n\ndef ", "\n\n\ndef ")))  # As functions stand by themselves.
        call(["sim", "run", "--protocol", "naive", "--scenario", name])
        _, _, story = capsys.readouterr().out.partition("\n\n")
        _, _, story = story.partition("\n\n")
        found.append(("text", story.partition("\n\nThe same script")[0].lstrip("\n") + "\n"))
    return found


def test_the_page_shows_what_is_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Code and stories are those of today."""
    text = PAGE.read_text(encoding="utf-8")
    wanted = expected(capsys)
    if os.environ.get("TRIO_PB_REWRITE") == "1":
        remaining = iter(wanted)
        PAGE.write_text(BLOCK.sub(lambda _: "```{}\n{}```\n".format(*next(remaining)), text), encoding="utf-8")
        return
    assert BLOCK.findall(text) == wanted


def test_every_mistake_has_its_section() -> None:
    """In the order of the catalogue, by the title that the command prints, with the command itself."""
    text = PAGE.read_text(encoding="utf-8")
    titles = re.findall(r"^## \d+\. (.*)$", text, re.MULTILINE)
    assert [title.lower() for title in titles] == [script.title.lower() for script in SCRIPTS.values()]
    assert re.findall(r"^`trio-pb sim run --protocol naive --scenario (.*)`:$", text, re.MULTILINE) == list(SCRIPTS)


def test_every_judge_is_explained() -> None:
    """The table of judges has each that a mistake is found by."""
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{script.oracle}` |" in text for script in SCRIPTS.values())
    assert len(blocks(PAGE, "py")) == len(SCRIPTS)
