"""Optimisers over flat buffers; they know no trainer."""
