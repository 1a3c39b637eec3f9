"""Networks that learn before reinforcement: from labels or without any."""
