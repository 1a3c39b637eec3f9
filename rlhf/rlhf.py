"""PPO on language: generate, score, and hand a rollout to agents' learner.

No surrogate loss and no advantage estimation is here; both are agents'.
"""
