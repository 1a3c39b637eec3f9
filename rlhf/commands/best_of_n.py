"""Placeholder of the best_of_n command.

Follows.
"""
