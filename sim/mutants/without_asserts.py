"""One switch for the core's own checks: is a bug noticed by anybody but itself?

The core says that its state is impossible in two ways: by `assert`, and by stopping (`Fatal`). `python -O` will not
do: it would blind the oracles as well, and the core refuses to run so. So each function of the shipped
packages is compiled once more without its asserts, and meanwhile runs as that.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from inspect import getsource
from types import CodeType, FunctionType, ModuleType

from sim.mutants.mutant import Patch
from trio_pb.core.state import State

__all__ = ["without_asserts"]

PACKAGES = ("trio_pb.core.", "trio_pb.storage.", "trio_pb.app.", "trio_pb.codec.")
# No impossible states, but rules: a directory that was formatted anew has no vote (7.6), and a release that a program
# does not know is not executed by it (11).
RIGHTFUL_STOPS = frozenset({"identity_refused", "upgrade_needed"})


@contextmanager
def without_asserts() -> Generator[None, None, None]:
    """Take the asserts and the impossible-state stops out of the shipped code meanwhile. Plant mutants inside."""
    stripped = _stripped()
    patch = Patch()
    fatal = State.fatal

    def stop(self: State, code: str, text: str) -> None:
        if code in RIGHTFUL_STOPS:
            fatal(self, code, text)

    before = [(function, function.__code__) for function, _ in stripped]
    try:
        for function, code in stripped:
            function.__code__ = code
        patch.set(State, "fatal", stop)
        yield
    finally:
        patch.undo()
        for function, code in before:
            function.__code__ = code


@cache
def _stripped() -> tuple[tuple[FunctionType, CodeType], ...]:
    """Every function that has asserts, with its code without them."""
    found: list[tuple[FunctionType, CodeType]] = []
    for name in sorted(sys.modules):
        if name.startswith(PACKAGES):
            module = sys.modules[name]
            bare = compile(getsource(module), str(module.__file__), "exec", dont_inherit=True, optimize=1)
            codes = {(code.co_qualname, code.co_firstlineno): code for code in _codes_in(bare)}
            for function in _functions_of(module):
                own = function.__code__
                code = codes.get((own.co_qualname, own.co_firstlineno))
                if code is not None and code.co_code != own.co_code:
                    # A class with slots is made twice; what its functions see of it stays as it is.
                    found.append((function, code))
    return tuple(found)


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes_in(constant)


def _functions_of(owner: ModuleType | type) -> Iterator[FunctionType]:
    module = owner.__name__ if isinstance(owner, ModuleType) else owner.__module__
    for value in list(vars(owner).values()):
        if isinstance(value, type) and value.__module__ == module:
            yield from _functions_of(value)
        elif isinstance(value, property):
            yield from (it for it in (value.fget, value.fset) if isinstance(it, FunctionType))
        else:
            function = getattr(value, "__func__", value)  # Of a static or a class method.
            if isinstance(function, FunctionType) and function.__module__ == module:
                yield function
