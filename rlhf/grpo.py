"""Group-relative policy optimisation: advantages from a prompt's other responses.

The update itself is agents/ppo.py's.
"""
