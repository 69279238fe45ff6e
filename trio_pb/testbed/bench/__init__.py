"""Benchmarks of what one replica does, in processes of their own, with the code that ships and with real files.

`trio-pb bench` shows them; docs/performance.md says how to read them.
"""
