"""What a language policy acts in: tasks and games of one or many turns, with verified reward."""
