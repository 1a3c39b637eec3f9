"""Self-play by PPO: a learner against a pool of its past versions."""
