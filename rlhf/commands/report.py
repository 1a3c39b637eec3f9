"""Placeholder of the report command.

Follows.
"""
