"""`python -m trio_pb` is the command `trio-pb`."""

from __future__ import annotations

from trio_pb.cli.main import run

if __name__ == "__main__":
    run()
