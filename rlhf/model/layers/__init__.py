"""Inner operations of the Transformer with compiled forward and backward passes."""
