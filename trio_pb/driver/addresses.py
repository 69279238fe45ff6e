"""Addresses as people write them: "host:port", with IPv6 hosts in brackets."""

from __future__ import annotations

from trio_pb.errors import ConfigError

__all__ = ["WILDCARD_HOSTS", "format_address", "parse_address"]

WILDCARD_HOSTS = frozenset({"", "0.0.0.0", "::"})  # Fit to listen on, not to be reached at.

PORT_MAX = 65535
PORT_DIGITS_MAX = 5


def parse_address(text: str) -> tuple[str, int]:
    """Split "host:port"; an empty host is returned as "".

    Addresses come from peers and replicas too: whatever this returns can be looked up, if only in vain.

    Raises:
        ConfigError: the text is not of that form; it is named in the message.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f'address {text!r}: write an IPv6 host in brackets, like "[::1]:7400"')
    if not colon or not _is_port(port):
        raise ConfigError(f'address {text!r}: write "host:port", like "127.0.0.1:7400"')
    if not _is_host(host):
        raise ConfigError(f"address {text!r}: {host!r} is no name of a host")
    return host, int(port)


def _is_port(text: str) -> bool:
    # Leading zeros count as digits too: int() refuses some thousands of them.
    return text.isascii() and text.isdigit() and len(text) <= PORT_DIGITS_MAX and int(text) <= PORT_MAX


def _is_host(text: str) -> bool:
    """Whether a resolver takes it: for an empty or far too long label it raises what nobody expects of a network."""
    if not text.isprintable() or " " in text:
        return False
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return True


def format_address(host: str, port: int) -> str:
    """The inverse of `parse_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
