"""The command line as scripts see it: exit codes, one line on stderr, JSON on stdout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trio_pb import __version__
from trio_pb.cli.lab import parse_peers
from trio_pb.cli.main import call
from trio_pb.cli.replica import parse_peers as parse_start_peers
from trio_pb.errors import ConfigError


def test_version_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Three versions, one object."""
    assert call(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trio_pb"] == __version__


def test_format_makes_a_directory_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second format of the same directory is refused with exit code 2 and touches nothing."""
    words = ["format", str(tmp_path / "d"), "--cluster", "c", "--replica", "1", "--replicas", "3", "--segment-mib", "1"]
    assert call([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["replica"], said["replicas"], len(said["cluster"])) == (1, 3, 32)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "d").rglob("*") if path.name != "LOCK"}
    assert call(words) == 2
    assert "belongs to a replica already" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "d").rglob("*") if path.name != "LOCK"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["frobnicate"], "frobnicate"),
        (["format"], "DIR is missing; see trio-pb format --help"),
        (["format", "d", "--cluster", "c", "--replica", "3", "--replicas", "3"], "replica 3"),
        (["format", "d", "--cluster", "c", "--replica", "0", "--replicas", "8"], "1 to 7"),
        (["start", "nowhere", "--peers", "0=127.0.0.1:1"], "nowhere"),
        (["start", "d", "--peers", "zero"], "ID=HOST:PORT"),
        (["start", "d", "--peers", "1024=h:1"], "an ID is 0 to 1023"),
        (["start", "d", "--peers", "9" * 5000 + "=h:1"], "an ID is 0 to 1023"),
        (["start", "nowhere"], "nowhere"),
        (["order", "place", "7", "1"], "LAPTOP is missing; see trio-pb order place --help"),
        (["order", "place", "-7", "1", "x"], "CUSTOMER -7: must be a whole number"),
        (["order", "place", "7", str(2**63), "x"], "ORDER 9223372036854775808: must be a whole number"),
        (["order", "read", "x"], "CUSTOMER"),
        (["order", "read", "7", "--timeout", "-1"], "--timeout -1"),
        (["order", "read", "7", "--timeout", "nan"], "--timeout nan"),
        (["order", "read", "7", "--adresses", "h:1"], "Did you mean --addresses"),
        (["order", "scan", "--limit", "-1"], "--limit -1"),
        (["order", "scan", "--start", "-1"], "--start -1"),
        (["lab", "server", "0", "1", "0"], "PORT 0: must be 1 to 65535"),
        (["status", "localhost"], "host:port"),
        (["demo", "--replicas", "2"], "--replicas 2"),
        (["demo", "--customers", "1", "--orders", "3"], "orders all in all"),
        (["sim", "run", "--seeds", "0"], "--seeds 0"),
        (["lab", "server", "7400", "1", "2", "2", "host", "1"], "NUM_PEERS is 2"),
        (["lab", "client", "127.0.0.1", "1", "1", "1", "4"], "REQUEST_TYPE 4"),
        (["order", "import", "f.csv", "--lanes", "0"], "--lanes 0"),
        (["order", "import", "f.csv", "--rate", "0"], "--rate"),
        (["order", "import", "no-such-file.csv"], "no-such-file.csv"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was tried; the message names what was wrong, without a traceback."""
    monkeypatch.chdir(tmp_path)
    assert call(words) == 2
    said = capsys.readouterr()
    assert told.lower() in said.err.lower()
    assert "Traceback" not in said.err
    assert said.out == ""


def test_status_of_nobody_is_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    """Port 1 answers nobody here."""
    assert call(["status", "127.0.0.1:1", "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == {"replicas": [{"address": "127.0.0.1:1", "answered": False}]}


def test_peers_of_start() -> None:
    """ID=HOST:PORT, each id once."""
    assert parse_start_peers(["0=a:1", "12=[::1]:2"]) == {0: "a:1", 12: "[::1]:2"}
    with pytest.raises(ConfigError, match="named twice"):
        parse_start_peers(["0=a:1", "0=b:1"])


def test_peers_of_the_lab() -> None:
    """Triples in any order; every id differs."""
    assert parse_peers(3, 2, ("1023", "b", "7402", "0", "a", "7401")) == {0: ("a", 7401), 1023: ("b", 7402)}
    for words in (("3", "a", "1", "4", "b", "2"), ("4", "a", "1", "4", "b", "2"), ("4", "a", "1", "1024", "b", "2")):
        with pytest.raises(ConfigError):
            parse_peers(3, 2, words)


def test_format_refuses_a_directory_of_somebody_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the path does not strew files about."""
    (tmp_path / "letters.txt").write_text("dear", encoding="utf-8")
    assert call(["format", str(tmp_path), "--cluster", "c", "--replica", "0", "--replicas", "1"]) == 2
    assert "'letters.txt'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


@pytest.mark.parametrize("words", [[], ["order"], ["lab"], ["sim"]])
def test_help_tells_what_each_command_does(words: list[str]) -> None:
    """In a new process, where nothing is imported yet: no command is only a name, none has a --no- twin."""
    command = [sys.executable, "-X", "utf8", "-m", "trio_pb", *words, "--help"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    lines = [line.strip("\u2502 ") for line in done.stdout.splitlines() if line.startswith("\u2502 ")]
    assert lines
    for line in lines:
        assert len(line.split(maxsplit=1)) == 2, line
        assert "--no-" not in line


def test_a_table_is_never_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A narrow terminal wraps what it is given; an address or a digest must stay whole."""
    monkeypatch.setenv("COLUMNS", "20")
    address = "127.0.0.1:1"
    assert call(["status", address]) == 3
    out = capsys.readouterr().out
    assert "\u2026" not in out
    assert out.splitlines()[1].split() == [address, "-", "no", "answer", *["-"] * 8]
