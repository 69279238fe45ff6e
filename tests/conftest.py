"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# Shared machines pause for longer than any sensible deadline of one example.
settings.register_profile("trio_pb", deadline=None)
settings.load_profile("trio_pb")
