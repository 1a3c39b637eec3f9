"""Placeholder of the chat command.

Follows.
"""
