"""Customers by the hundred against a cluster of real processes, and how it bears them: `trio-pb bench`."""
