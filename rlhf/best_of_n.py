"""Best of n samples by a reward, and how far that is from the policy.

Nothing is trained.
"""
