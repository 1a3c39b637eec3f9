"""Language policies: text, Transformer, preference, PPO."""
