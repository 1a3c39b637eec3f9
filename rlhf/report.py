"""One page about a pipeline: plots, tables, samples before and after.

Reads what the stages left; computes nothing that they did not.
"""
