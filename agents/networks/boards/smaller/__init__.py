"""Smaller board networks: fewer channels, weights of few bits, products of bytes."""
