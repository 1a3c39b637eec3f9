"""Run directories, checkpoints, metrics and the training loop."""
