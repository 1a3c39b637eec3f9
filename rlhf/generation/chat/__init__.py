"""Conversations: a model's template for them, and talking in the terminal."""
