"""State machines of one's own, small enough to be read in a minute."""
