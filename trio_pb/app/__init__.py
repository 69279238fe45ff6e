"""State machines: what the ordered requests mean. Pure, deterministic, no clock, no randomness.

`machine` is the base class, `orders` the laptop orders. `chunks`, `buckets`, `ring` and `ordered` hold
the state of a million customers so that a digest and a snapshot cost what changed, not what there is.
"""
