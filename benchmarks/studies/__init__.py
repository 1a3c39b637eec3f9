"""Short studies of how networks learn, each with a quick form and a page that explains itself."""
