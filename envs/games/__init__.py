"""One file a game: rules only."""
