"""One checkpoint: its folder, its codec, its history."""
