"""Games by their C function tables, for Python.

game.py has games, state.py single states, state_batch.py many at once, registry.py games by name,
python_game.py games written in Python, rules.py examines their answers. The compiled modules are
each imported by one of these; _adopt.pyx completes a table before anything asks it.
"""
