"""Placeholder of the rlhf command.

Follows.
"""
