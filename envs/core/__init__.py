"""Games by their C function tables, for Python.

game.py has single states, state_batch.py many at once, registry.py games by name, python_game.py
games written in Python, records.py games on disk; state_checks.py and game_checks.py examine a
game, counts.py counts its tree. The compiled modules are each imported by one of these.
"""
