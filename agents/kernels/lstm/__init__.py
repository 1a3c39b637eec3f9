"""The compiled LSTM."""
