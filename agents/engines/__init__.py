"""External engines and engine protocols."""
