"""`trio-pb.toml`: what `trio-pb start` would otherwise be told by flags, each time anew.

listen = "0.0.0.0:7400"
advertise = "db0.example:7400"
checkpoint-interval = 1024

[peers]
0 = "db0.example:7400"
1 = "db1.example:7400"

Strict: what is not known is an error, so that a slip of the pen is not a setting that has no effect.
"""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import cast

import attrs

from trio_pb.driver.addresses import parse_address
from trio_pb.errors import ConfigError
from trio_pb.storage.fields import REPLICAS_MAX
from trio_pb.testbed.formatting import CONFIG_FILE

__all__ = ["CONFIG_FILE", "StartConfig", "parse_replica", "read_config"]

CONFIG_SIZE_MAX = 1 << 20  # Bytes; it needs a few hundred.

_REPLICA = re.compile(r"0|[1-9][0-9]{0,3}")  # Of thousands of digits int() makes no number.

KEYS = ("advertise", "checkpoint-interval", "listen", "peers")


@attrs.frozen(kw_only=True)
class StartConfig:
    """What a file says; None where it says nothing."""

    listen: str | None = None  # "host:port".
    advertise: str | None = None  # "host:port".
    checkpoint_interval: int | None = None  # Ops.
    peers: dict[int, str] | None = None  # Replica -> "host:port".


def read_config(path: Path) -> StartConfig:
    """Read and check a file.

    Raises:
        ConfigError: it cannot be read, is not TOML, or says something that is not known; the message names
            the file, the key, and what to write instead.
    """
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_SIZE_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if len(data) > CONFIG_SIZE_MAX:
        raise ConfigError(f"{path}: larger than {CONFIG_SIZE_MAX} bytes: this is no configuration")
    try:
        fields: dict[str, object] = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # Not TOML, or not even UTF-8.
        raise ConfigError(f"{path}: not TOML: {error}") from error
    for key in fields:
        if key not in KEYS:
            (nearest,) = get_close_matches(key, KEYS, n=1, cutoff=0.0)
            raise ConfigError(
                f"{path}: unknown key {key!r}; the nearest one is {nearest!r} (all of them: {', '.join(KEYS)})"
            )
    return StartConfig(
        listen=_address(path, "listen", fields["listen"]) if "listen" in fields else None,
        advertise=_address(path, "advertise", fields["advertise"]) if "advertise" in fields else None,
        checkpoint_interval=_interval(path, fields["checkpoint-interval"]) if "checkpoint-interval" in fields else None,
        peers=_peers(path, fields["peers"]) if "peers" in fields else None,
    )


def _address(path: Path, key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f'{path}: {key}: must be text, like "127.0.0.1:7400"')
    try:
        parse_address(value)
    except ConfigError as error:
        raise ConfigError(f"{path}: {key}: {error}") from error
    return value


def _interval(path: Path, value: object) -> int:
    if type(value) is not int:
        raise ConfigError(f"{path}: checkpoint-interval: must be a whole number of ops, like 1024")
    return value


def _peers(path: Path, value: object) -> dict[int, str]:
    if not isinstance(value, dict):
        raise ConfigError(f'{path}: peers: must be a table [peers] with lines like 0 = "127.0.0.1:7400"')
    peers: dict[int, str] = {}
    for number, address in cast("dict[str, object]", value).items():
        replica = parse_replica(number)
        if replica is None:
            raise ConfigError(f"{path}: peers: {number!r} is no replica number, which are 0 to {REPLICAS_MAX - 1}")
        peers[replica] = _address(path, f"peers: {number}", address)
    return peers


def parse_replica(text: str) -> int | None:
    """Return the number of a replica as people write it; None for anything else."""
    return int(text) if _REPLICA.fullmatch(text) is not None and int(text) < REPLICAS_MAX else None
