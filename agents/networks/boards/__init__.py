"""Networks of board games: what one owes, the built-in ones, and a person's own."""
