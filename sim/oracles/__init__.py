"""Checks from outside: what must hold over all replicas, disks and clients of a run."""
