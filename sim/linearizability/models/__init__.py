"""Sequential machines that histories are checked against, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from sim.linearizability.model import AnyModel
from sim.linearizability.models.counter import Counter
from sim.linearizability.models.orders import Orders
from sim.linearizability.models.queue import Queue
from sim.linearizability.models.register import Register

__all__ = ["MODELS"]

MODELS: Mapping[str, Callable[[], AnyModel]] = MappingProxyType(
    {model.name: model for model in (Orders, Register, Counter, Queue)}
)
