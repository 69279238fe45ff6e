"""Named scenarios: short plays about trio_pb under faults, which tell what is done and what came true.

Each is a function over `sim.narrated.NarratedCluster`, in the room of its subject; `catalogue` has them all.
"""
