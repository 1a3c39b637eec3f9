"""PPO: collect a rollout, estimate advantages, update."""
