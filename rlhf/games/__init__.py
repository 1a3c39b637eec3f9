"""A language policy that learns a game from nothing: the recipe `playout rlhf games`."""
