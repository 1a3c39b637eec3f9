"""The Transformer, its heads and adapters, and the file formats it is read from."""
