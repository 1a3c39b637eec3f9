"""Self-play by other processes: actors publish files of games, from which a learner learns."""
