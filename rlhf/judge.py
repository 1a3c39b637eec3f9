"""Which of two policies writes better: by rewards, and by a person without names.

Votes are preference data that the reward stage reads.
"""
