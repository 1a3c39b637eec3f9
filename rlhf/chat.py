"""A conversation with a policy in the terminal.

Reading lines and writing answers only; sampling is generate.py's.
"""
