"""One file a game: rules only, no Gymnasium and no NumPy.

A game module exports `make(**params)`, which returns a capsule named "playout.game.v1"
(playout_game.h). Which games there are says envs/catalogue.py.
"""
