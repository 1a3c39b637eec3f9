"""Which texts are worth learning from: duplicates, quality, likeness to a domain, mixtures."""
