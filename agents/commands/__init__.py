"""One module a command line command."""
