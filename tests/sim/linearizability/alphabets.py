"""Questions and answers that small histories are made of, more of them than go together."""

from __future__ import annotations

from sim.linearizability import UNKNOWN
from tests.sim.linearizability.brute_force import Letter

__all__ = ["FEW_ORDERS", "FEW_REGISTER", "ORDERS", "REGISTER"]

_WRITE_1 = ("write", "x", 1)
_WRITE_2 = ("write", "x", 2)
_READ = ("read", "x")
_CAS = ("cas", "x", 1, 2)

FEW_REGISTER: list[Letter] = [(_WRITE_1, None), (_WRITE_1, UNKNOWN), (_READ, None), (_READ, 1)]
REGISTER: list[Letter] = [
    *FEW_REGISTER,
    (_WRITE_2, None),
    (_READ, 2),
    (_CAS, True),
    (_CAS, False),
    (_CAS, UNKNOWN),
]

_FIRST = ("place", 1, 1, "a", False, None)
_SECOND = ("place", 1, 2, "b", False, None)
_OVER = ("place", 1, 1, "c", True, None)
_KEYED = ("place", 1, 1, "a", False, "6b")
_REUSED = ("place", 1, 3, "d", False, "6b")
_OTHER = ("place", 2, 1, "e", False, None)
_SCAN = ("scan", 0)
_PLACED, _DUPLICATE = ("placed",), ("duplicate",)

FEW_ORDERS: list[Letter] = [
    (_FIRST, _PLACED),
    (_OTHER, UNKNOWN),
    (_SCAN, (((1, 1, 1, "a"),), None)),
    (_SCAN, (((2, 1, 1, "e"),), None)),
]
ORDERS: list[Letter] = [
    *FEW_ORDERS,
    (_FIRST, UNKNOWN),
    (_FIRST, ("rejected", "order_number_not_above_last")),
    (_SECOND, _PLACED),
    (_OVER, _PLACED),
    (_KEYED, _PLACED),
    (_KEYED, UNKNOWN),
    (_KEYED, _DUPLICATE),
    (_REUSED, ("rejected", "idempotency_key_reused")),
    (_OTHER, _PLACED),
    (("read", 1), (-1, 0, "")),
    (("read", 1), (1, 1, "a")),
    (("read", 1), (2, 2, "b")),
    (("read", 1), (1, 2, "c")),
    (("read", 2), (1, 1, "e")),
    (_SCAN, ((), None)),
    (_SCAN, (((1, 1, 1, "a"), (2, 1, 1, "e")), None)),
]
