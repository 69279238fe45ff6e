"""Measurements beside other systems; what measures trio_pb alone is `trio-pb bench`."""
