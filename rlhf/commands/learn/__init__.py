"""Stages that learn, one file a command."""
