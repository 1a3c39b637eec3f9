"""Networks that learn before reinforcement: from labels."""
