"""The replication protocol as a pure state machine: inputs in, outputs out, nothing else.

Start at `replica`: it is the seam. `messages` and `ports` are its vocabulary.
"""
