"""Many environments stepped together, whatever they come from."""
