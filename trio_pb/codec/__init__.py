"""Bytes to messages and back: frames, and the CBOR of every message (PROTOCOL 3.1, 3.2).

Knows limits, not sockets. docs/reference/wire-format.md describes the bytes.
"""
