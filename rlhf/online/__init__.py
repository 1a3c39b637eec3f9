"""Stages that learn from what the policy samples."""
