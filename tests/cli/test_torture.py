"""What `trio-pb torture` refuses before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from trio_pb.cli.main import call


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--minutes", "0"], "--minutes 0"),
        (["--seed", "-1"], "--seed -1"),
        (["--customers", "0"], "--customers 0"),
        (["--rate", "0.5"], "--rate 0.5"),
        (["--rate", "9000"], "--rate 9000"),
    ],
)
def test_numbers_that_make_no_torture(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and what is wrong."""
    assert call(["torture", *words]) == 2
    assert told in capsys.readouterr().err


def test_a_directory_with_files_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the path costs nothing."""
    (tmp_path / "thesis.txt").touch()
    assert call(["torture", "--directory", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
