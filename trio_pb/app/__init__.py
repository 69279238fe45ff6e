"""State machines: what the ordered requests mean. Pure, deterministic, no clock, no randomness.

`machine` is the base class, `orders` the laptop orders, which keep `customers` and `recent_orders`. `parts`
says what checkpoints need of state; `blob`, `buckets` and `ring` are such parts. `chunks`, `packing` and
`ordered` are the ground they stand on: a digest, a snapshot and a checkpoint of a million customers cost
what changed, not what there is.
"""
