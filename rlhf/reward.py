"""A reward model from preferences: Bradley-Terry with ties and margins.

Scores texts at their last real token; what pairs it learns from is data.py's and material.py's.
"""
