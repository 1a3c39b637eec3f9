"""Placeholder of the judge command.

Follows.
"""
