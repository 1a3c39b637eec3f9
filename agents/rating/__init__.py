"""Matches, ratings, and what solved positions say about a player."""
