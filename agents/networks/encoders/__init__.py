"""Encoders: from an observation of any Gymnasium space to one feature vector."""
