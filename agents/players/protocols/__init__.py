"""Engine protocols spoken by playout: GTP and UCI on text streams, for any player."""
