"""Pictures and text of games and tasks."""
