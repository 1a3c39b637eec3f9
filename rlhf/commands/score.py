"""Placeholder of the score command.

Follows.
"""
