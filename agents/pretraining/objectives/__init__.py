"""What a trunk is taught by: labels, its own input, or tasks made out of pictures."""
