"""What eval, play and export do with a run of a language stage.

Dispatch is agents/loading.py's.
"""
