"""In how many bits networks multiply, and in how many they hold their weights."""
