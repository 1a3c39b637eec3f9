"""Pictures of games and control tasks, in NumPy alone.

board.py draws games, control.py tasks, both with the shapes of canvas.py. Which function draws what
stands in envs/catalogue.py.
"""
