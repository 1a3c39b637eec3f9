"""AlphaZero: self-play by search, replay, gradient steps, evaluation."""
