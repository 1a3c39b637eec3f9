"""Suites of questions with known answers, and what a language model makes of them."""
