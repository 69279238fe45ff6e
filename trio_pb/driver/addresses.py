"""Addresses as people write them: "host:port", with IPv6 hosts in brackets."""

from __future__ import annotations

from trio_pb.errors import ConfigError

__all__ = ["WILDCARD_HOSTS", "format_address", "parse_address"]

WILDCARD_HOSTS = frozenset({"", "0.0.0.0", "::"})  # Fit to listen on, not to be reached at.

PORT_MAX = 65535


def parse_address(text: str) -> tuple[str, int]:
    """Split "host:port"; an empty host is returned as "".

    Raises:
        ConfigError: the text is not of that form; it is named in the message.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f'address {text!r}: write an IPv6 host in brackets, like "[::1]:7400"')
    if not colon or not port.isascii() or not port.isdigit() or int(port) > PORT_MAX:
        raise ConfigError(f'address {text!r}: write "host:port", like "127.0.0.1:7400"')
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """The inverse of `parse_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
