"""The compiled small MLP."""
