"""Direct preference optimisation: learn a policy from pairs without a reward model.

Pairs come from data.py or are sampled and judged by best_of_n.py's helpers.
"""
