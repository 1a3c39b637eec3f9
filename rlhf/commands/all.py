"""Placeholder of the all command.

Follows.
"""
