"""Tells a run in words and draws it: what led to a violation, or all that happened.

`model` is the data, and `builder` the way for any world to tell its own runs. `cone`, `outline`, `text`, `page`
and `perfetto` look at data only. The rest watches our own simulated cluster, for which `teller` begins.
"""
