"""What a trunk is pretrained on: pictures of files and packages, and positions of games."""
