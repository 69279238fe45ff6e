"""Which frames of a traceback say where a run failed, wherever the packages and the user's code lie."""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path

from trio_pb import errors

__all__ = ["telling_frames"]


# The two packages, by a module at the top of each.
_OURS = tuple(f"{Path(module).parent}{os.sep}" for module in (__file__, errors.__file__))
_LIBRARIES = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_PACKAGES = f"{os.sep}site-packages{os.sep}"


def telling_frames(error: BaseException) -> list[tuple[str, str]]:
    """Return file name and function of the frames of our code, and of the innermost one of the user's; that first.

    What lies in the standard library or in other packages tells little.
    """
    found: list[tuple[str, str]] = []
    has_theirs = False
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = frame.filename
        if not path.startswith(_OURS):
            if has_theirs or path.startswith(("<", *_LIBRARIES)) or _PACKAGES in path:
                continue
            has_theirs = True
        found.append((os.path.basename(path), frame.name))
    return found
