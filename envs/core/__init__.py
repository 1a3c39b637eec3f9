"""Games behind the C table: states, batches, registry, records."""
