"""A language model as a policy that agents' PPO can improve.

Tokens are actions and a response is a row; the loss itself is agents/ppo.py's.
"""
