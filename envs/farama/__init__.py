"""The Gymnasium and PettingZoo sides of games and control tasks."""
