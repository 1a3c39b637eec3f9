"""Whether a game keeps the promises of its table: `playout.testing.check_game`."""
