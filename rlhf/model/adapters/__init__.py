"""Learning with few parameters: low-rank adapters, what is frozen below them, and their files."""
