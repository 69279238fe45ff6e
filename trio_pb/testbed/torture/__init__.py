"""Torture of a real cluster: processes, files, TCP and time go wrong under load, and what clients saw is judged.

`run.torture` is the whole of it; `trio-pb torture` prints what it found.
"""
