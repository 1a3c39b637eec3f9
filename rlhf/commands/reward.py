"""Placeholder of the reward command.

Follows.
"""
