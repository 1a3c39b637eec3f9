"""Adaptors to the peers, each an optional extra."""
