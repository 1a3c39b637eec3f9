"""Which texts are worth learning from: prose by name, duplicates, quality, likeness, mixtures."""
