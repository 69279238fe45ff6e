"""The simulated world: one seed decides messages, clocks, disks, crashes and clients.

The replication core runs here through the same seam as in production (`Replica.step`), with a heap of
events for time, fake disks and a fake network around it, and oracles that look from outside.
"""
