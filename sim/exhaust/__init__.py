"""Every order of events of a cluster so small that all of them can be tried: `trio-pb sim exhaust`."""
