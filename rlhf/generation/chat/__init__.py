"""A conversation in the terminal: what is said so far, and reading and writing its lines."""
