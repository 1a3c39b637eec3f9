"""Players: whatever chooses moves or actions."""
