"""Every `trio-pb ...` that the documentation shows is a command line that the program understands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from cyclopts import App, CycloptsError

from tests.docs.pages import PAGES, ROOT, blocks, name_of, prose
from trio_pb.cli.main import app

INLINE = re.compile(r"`(trio-pb [^`]+)`")
HEADING = re.compile(r"^### (`trio-pb [^`]+`)", re.MULTILINE)


def shell_lines(page: Path) -> list[str]:
    """The command lines in the shell blocks of a page, loops taken apart, with numbers for their variable."""
    found: list[str] = []
    for body in blocks(page, "sh"):
        for line in re.split(r"[\n;|]", body.replace("\\\n", " ")):
            text = line.strip().removesuffix("&").replace("$n", "1")
            if text.startswith("trio-pb "):
                found.append(text)
    return found


def is_pattern(text: str) -> bool:
    """Whether this is how to write a line, with words in capitals to be replaced, and no line itself."""
    return re.search(r"\b[A-Z][A-Z_]+\b|\.\.\.|\[", text) is not None


def find(words: list[str]) -> tuple[App, list[str]]:
    """The command that a line calls, and the words that follow."""
    command, rest = app, words
    while rest and rest[0] in command:
        command, rest = command[rest[0]], rest[1:]
    return command, rest


def check(text: str) -> None:
    """Parse a line; of a pattern, its command and its flags."""
    words = shlex.split(text, comments=True)[1:]
    command, rest = find(words)
    assert command is not app, f"no such command: {text}"
    if command.default_command is None:  # Only a group of commands.
        assert not rest, f"no such command: {text}"
        return
    flags = {
        name
        for argument in command.assemble_argument_collection(default_parameter=app.default_parameter)
        for name in argument.names
    } | {"--help"}
    for word in rest:
        if word.startswith("--"):
            assert word in flags, f"{text}: {word}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_shell_lines_parse(page: Path) -> None:
    """What a reader copies is accepted, with all its words; a pattern at least has the right flags."""
    for text in shell_lines(page):
        check(text)
        if not is_pattern(text):
            try:
                app.parse_args(shlex.split(text, comments=True)[1:], print_error=False, exit_on_error=False)
            except CycloptsError as error:
                pytest.fail(f"{name_of(page)}: {text}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_sentences_exist(page: Path) -> None:
    """A command that is only mentioned has a known name and known flags."""
    for text in INLINE.findall(prose(page)):
        if text != "trio-pb COMMAND":
            check(text.replace("[", " ").replace("]", " "))


def test_the_reference_has_every_command_and_every_option() -> None:
    """Nothing that a command takes is left out of the page that lists it all."""
    page = ROOT / "docs" / "reference" / "cli.md"
    text = page.read_text(encoding="utf-8")
    sections = dict(zip(HEADING.findall(text), HEADING.split(text)[2::2], strict=True))
    for words in leaves(app, []):
        begins = "`trio-pb " + " ".join(words)
        section = next(
            (head + body for head, body in sections.items() if head.startswith((begins + " ", begins + "`"))), ""
        )
        assert section, f"no section for {' '.join(words)}"
        command, _ = find(words)
        for argument in command.assemble_argument_collection(default_parameter=app.default_parameter):
            for name in argument.names:
                if name.startswith("--") and name not in ("--json", "--addresses"):  # These are told of once for all.
                    assert name in section, f"{' '.join(words)}: {name}"


def leaves(group: App, words: list[str]) -> list[list[str]]:
    """The words of every command that does something."""
    names = [name for name in group if not name.startswith("-")]
    if not names:
        return [words]
    return [found for name in names for found in leaves(group[name], [*words, name])]
