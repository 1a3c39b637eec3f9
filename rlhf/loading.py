"""Load a policy of a language stage or of a whole pipeline as an object that acts.

Folders are found by stage.py.
"""
