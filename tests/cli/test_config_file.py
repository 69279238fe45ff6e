"""`trio-pb.toml`: what it may say, what is refused, and that flags win."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import trio

from trio_pb.cli.config_file import CONFIG_FILE, StartConfig, read_config
from trio_pb.cli.main import call
from trio_pb.errors import ConfigError
from trio_pb.testbed.formatting import cluster_id, format_replica
from trio_pb.testbed.process import replica_command

SECONDS_MAX = 30

WHOLE = """
listen = "127.0.0.1:0"
advertise = "db1.example:7400"

[peers]
0 = "db0.example:7400"
1 = "db1.example:7400"
"""


def test_a_whole_file(tmp_path: Path) -> None:
    """All keys that there are."""
    path = tmp_path / "x.toml"
    path.write_text(WHOLE, encoding="utf-8")
    peers = {0: "db0.example:7400", 1: "db1.example:7400"}
    assert read_config(path) == StartConfig(listen="127.0.0.1:0", advertise="db1.example:7400", peers=peers)


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    """Then flags and defaults decide."""
    path = tmp_path / "x.toml"
    path.write_text("", encoding="utf-8")
    assert read_config(path) == StartConfig()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lisen = 'h:1'", "unknown key 'lisen'; the nearest one is 'listen'"),
        ("[peer]\n0 = 'h:1'", "unknown key 'peer'; the nearest one is 'peers'"),
        ("zzz = 1", "unknown key 'zzz'; the nearest one is"),
        ("listen = 7400", "listen: must be text"),
        ("advertise = 'host'", "advertise: address 'host'"),
        ("peers = ['0=h:1']", "peers: must be a table"),
        ("[peers]\none = 'h:1'", "peers: 'one' is no replica number"),
        ("[peers]\n01 = 'h:1'", "peers: '01' is no replica number"),
        ("[peers]\n1 = 7400", "peers: 1: must be text"),
        ("[peers]\n1 = 'h'", "peers: 1: address 'h'"),
        ("[peers]\n1024 = 'h:1'", "peers: '1024' is no replica number, which are 0 to 1023"),
        ("[peers]\n" + "9" * 5000 + " = 'h:1'", "is no replica number"),
        ("listen = 'h:" + "0" * 5000 + "'", "write"),
        ("listen = 'db0..example:1'", "'db0..example' is no name of a host"),
        ("checkpoint-interval = " + "9" * 5000, "not TOML"),
        ("listen = ", "not TOML"),
        ("listen = '\udcff'", "not TOML"),
    ],
)
def test_a_bad_file_is_named_with_its_key(tmp_path: Path, text: str, told: str) -> None:
    """A slip of the pen is not a setting that has no effect."""
    path = tmp_path / "x.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)


def test_a_file_that_is_named_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the one in the data directory is optional."""
    assert call(["start", str(tmp_path), "--config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml: No such file" in capsys.readouterr().err


def made(tmp_path: Path, replicas: int) -> Path:
    """The data directory of replica 0, with a file that was there before it was formatted."""
    directory = tmp_path / "data"
    directory.mkdir()
    peers = "".join(f'{peer} = "127.0.0.1:{peer + 1}"\n' for peer in range(replicas))
    (directory / CONFIG_FILE).write_text(f'listen = "127.0.0.1:0"\n[peers]\n{peers}', encoding="utf-8")
    members = range(replicas)
    format_replica(directory, cluster=cluster_id("c"), replica=0, members=members, segment_size=1 << 20)
    return directory


async def first_line(*words: str) -> str:
    """What a replica says when it is ready; it is killed then."""
    said = b""
    with trio.fail_after(SECONDS_MAX):
        command = replica_command("start", *words, "--segment-mib", "1")
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            async with process.stdout:
                while not said.endswith(b"\n") and (data := await process.stdout.receive_some()):
                    said += data
        finally:
            process.kill()
        await process.wait()
    return said.decode()


@pytest.mark.process
async def test_start_takes_from_the_file_what_no_flag_says(tmp_path: Path) -> None:
    """The file in the data directory needs no flag; a flag beside it wins; --config names another file."""
    directory = made(tmp_path, 1)
    assert "advertised as 127.0.0.1:1, pid " in await first_line(str(directory))
    assert "advertised as 127.0.0.1:2, pid " in await first_line(str(directory), "--advertise", "127.0.0.1:2")
    assert "advertised as 127.0.0.1:3, pid " in await first_line(str(directory), "--peers", "0=127.0.0.1:3")
    other = tmp_path / "other.toml"
    other.write_text('listen = "127.0.0.1:0"\nadvertise = "127.0.0.1:4"\npeers = { 0 = "127.0.0.1:5" }\n')
    assert "advertised as 127.0.0.1:4, pid " in await first_line(str(directory), "--config", str(other))


@pytest.mark.process
def test_peers_must_be_those_of_the_cluster(tmp_path: Path) -> None:
    """One too few would never be reached, one too many is a wrong file."""
    directory = made(tmp_path, 3)
    for peers, told in ((2, "replica 2 is missing; the replicas of this cluster are 0, 1, 2"), (4, "no replica 3")):
        entries = [f"{peer}=127.0.0.1:1" for peer in range(peers)]
        command = replica_command("start", str(directory), "--peers", *entries)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS_MAX)
        assert done.returncode == 2
        assert told in done.stderr
        assert done.stdout == ""


def test_without_peers_it_says_where_to_name_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong directory is told of first."""
    assert call(["start", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
    directory = made(tmp_path, 3)
    (directory / CONFIG_FILE).unlink()
    assert call(["start", str(directory)]) == 2
    said = capsys.readouterr().err
    assert "--peers" in said
    assert CONFIG_FILE in said
