"""What can be done with what was learned, one file a command."""
