"""Everything that learns or plays: networks, PPO, self-play, players, matches."""
