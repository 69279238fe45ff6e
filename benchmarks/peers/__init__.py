"""Peers side by side with trio_pb in one run on one machine: `make bench-peers`."""
