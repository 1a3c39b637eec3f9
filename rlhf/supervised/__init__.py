"""Stages of gradient steps on given data."""
