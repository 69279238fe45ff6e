"""What an import costs: a library must not bring a command line along."""

from __future__ import annotations

import subprocess
import sys

import trio_pb


def modules_after(statement: str) -> set[str]:
    """The modules of a new interpreter that has executed `statement`."""
    code = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_is_light() -> None:
    """Only our errors come with it: no Trio, no CBOR, no command line."""
    modules = modules_after("import trio_pb")
    assert "trio_pb.errors" in modules
    assert modules.isdisjoint({"attrs", "cbor2", "cyclopts", "rich", "trio"})


def test_the_client_needs_no_command_line() -> None:
    """A program that orders laptops imports neither the parser of flags nor the painter of tables."""
    modules = modules_after("import trio_pb; trio_pb.connect; trio_pb.OrderClient")
    assert "trio" in modules
    assert modules.isdisjoint({"cyclopts", "rich"})


def test_all_that_is_public_is_there() -> None:
    """What is imported late is found as well."""
    for name in trio_pb.__all__:
        assert getattr(trio_pb, name) is not None
