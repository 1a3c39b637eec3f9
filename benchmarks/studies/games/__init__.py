"""Studies of self-play: what games are learned, how well, and by which of its options."""
