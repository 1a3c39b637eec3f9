"""The whole pipeline, stage after stage, each in its own folder of one run.

Stages are commands of their own; here is only their order and their options.
"""
