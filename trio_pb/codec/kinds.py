"""The number of every kind of message. A number is never given to another kind (PROTOCOL 3.2).

Numbers without a kind here are dropped and counted, so a newer peer may send kinds that we do not
know. Kept free, because the protocol names kinds that are not in use yet:

====== ============================
17     get_manifest (not needed: a manifest is fetched like a chunk)
18     manifest (likewise)
24     retired (reconfiguration)
====== ============================

Replicas among themselves have 1 to 31, clients and their answers 32 to 63.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Kind"]


class Kind(IntEnum):
    """What a frame holds; key 1 of its header."""

    HELLO = 1
    HELLO_ACK = 2
    PING = 3
    PONG = 4
    PREPARE = 5
    PREPARE_OK = 6
    COMMIT = 7
    COMMIT_OK = 8
    START_VIEW_CHANGE = 9
    DO_VIEW_CHANGE = 10
    START_VIEW = 11
    GET_START_VIEW = 12
    GET_IDS = 13
    IDS = 14
    GET_PREPARES = 15
    PREPARE_COPY = 16
    GET_CHUNK = 19
    CHUNK_PIECE = 20
    GONE = 21
    READ_INDEX = 22
    READ_INDEX_OK = 23

    GREET = 32
    GREETED = 33
    STATUS_GET = 34
    STATUS = 35
    REQUEST = 36
    READ = 37
    REPLY = 38
    REJECT = 39
