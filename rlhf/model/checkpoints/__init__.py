"""What published checkpoints say about themselves, and files of other formats."""
