"""Control tasks: many environments a call, in C.

tasks.py finds a task and its parameters, driver.h steps a batch of any task (through _control.pyx),
physics/ has one file a task, which knows nothing of time limits, seeds or how observations lie.
"""
