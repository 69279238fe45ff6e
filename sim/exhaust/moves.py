"""What may happen next in a small world: one replica acts, or something befalls it."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from sim.exhaust.disk import Kept

__all__ = ["Append", "Ask", "Crash", "Deliver", "Heartbeat", "Image", "Move", "Wished"]


@attrs.frozen
class Deliver:
    """A message arrives. It stays under way as well: the network may copy it, and deliver it again at any time."""

    message: int


@attrs.frozen
class Ask:
    """A client's request arrives, for the first time or again."""

    client: int


@attrs.frozen
class Append:
    """The oldest append to the journal is durable."""


@attrs.frozen
class Image:
    """The superblock image is durable."""


@attrs.frozen
class Heartbeat:
    """A primary tells the others how far everything is committed."""


@attrs.frozen
class Wished:
    """All the others wish for a view, as a replica does whose patience ends: enough to enter it (R-ENTER).

    That they wished is no part of their states. Whoever hears its primary again, or enters the view itself, is as if
    it never had; so nothing is reached by this that they could not reach by wishing and being heard.
    """

    view: int


@attrs.frozen
class Crash:
    """The power fails, and the replica starts again from what its disk kept."""

    kept: Kept


Move: TypeAlias = "Deliver | Ask | Append | Image | Heartbeat | Wished | Crash"
