"""Placeholder of the grpo command.

Follows.
"""
