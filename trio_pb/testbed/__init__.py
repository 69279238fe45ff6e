"""Clusters of real processes on this machine: start, load, pause, kill, restart, verify.

The demo and the process tests use it. Nothing that it starts or writes outlives it.
"""
