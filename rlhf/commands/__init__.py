"""The commands `playout rlhf STAGE`, one file a stage."""
