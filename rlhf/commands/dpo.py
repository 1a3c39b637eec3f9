"""Placeholder of the dpo command.

Follows.
"""
