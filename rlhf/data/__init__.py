"""Text as records, splits and batches."""
