"""What all benchmarks say: which machine it was, and how busy; and that signals end them without leaving anything."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from trio_pb import __version__
from trio_pb.errors import ConfigError

__all__ = ["check_directory", "ended_by_signals", "machine_fields", "machine_words", "rounded"]


def check_directory(directory: Path | None) -> None:
    """Refuse to measure where nothing can be.

    Raises:
        ConfigError: there is no such directory.
    """
    if directory is not None and not directory.is_dir():
        raise ConfigError(f"--directory {directory}: there is no such directory")


@contextmanager
def ended_by_signals() -> Generator[None]:
    """SIGTERM and SIGHUP end a benchmark like Ctrl-C does: its processes and files go first."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def machine_fields(load_before: float) -> dict[str, object]:
    """Version, system, cores and load average, the last before and after a measurement."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load_before": round(load_before, 2),
        "load_after": round(os.getloadavg()[0], 2),
    }


def machine_words(load_before: float) -> str:
    """The same in a line."""
    machine = machine_fields(load_before)
    return (
        f"{machine['system']}, {machine['cores']} cores, Python {machine['python']}, "
        f"load {machine['load_before']} before and {machine['load_after']} after"
    )


def rounded(_owner: object, _field: object, value: object) -> object:
    """For `attrs.asdict`: no digits that nobody measured."""
    return round(value, 4) if isinstance(value, float) else value
