"""Bugs planted in the shipped code, on purpose and for a while: does the simulator notice?

`mutant` says what a bug is and plants it, `catalogue` knows all of them, `hunt` looks for one, `score` for all,
`without_asserts` takes the core's own checks away. The bugs stand in a room for each area of the protocol.
"""
