"""Compiled inner loops, each behind the plain code that it is tested against."""
